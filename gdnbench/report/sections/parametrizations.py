"""Where the μP rules of a comparison's arms differ, by the rules stored beside the runs."""

from collections.abc import Mapping, Sequence

from gdnbench.configuration import canonical_json
from gdnbench.report import numbers
from gdnbench.report.comparing import Choice
from gdnbench.report.figures.style import is_control
from gdnbench.report.study import Study, model
from gdnbench.report.tables.rules import HEADINGS, Rules, stored_rules, title_of

OPTIMIZERS = ("adamw", "sgd")


def rule_sentences(choices: Sequence[Choice], study: Study) -> list[str]:
    """Return a sentence for each group of arms whose μP has other rules than the first arm's; standard arms have none.

    Only rules that the arms' optimizer reads are compared.
    """
    stored, groups = stored_rules(study), dict[str, list[Choice]]()
    for choice in choices:
        title = title_of(choice.runs, stored)
        if choice.chosen and title in stored and not is_control(choice.runs.table):
            groups.setdefault(canonical_json(_read(choice, stored[title])), []).append(choice)
    first, *others = groups.values() or [[]]
    return [_sentence(first, other, stored) for other in others]


def _read(choice: Choice, rules: Rules) -> dict[str, dict[str, str]]:
    """Return role -> heading -> factor, of the factors that a run reads."""
    name = choice.chosen[0].spec["optimizer"]["name"]
    left_out = {other for other in OPTIMIZERS if other != name}
    return {
        role: {heading: cells[column] for column, heading in HEADINGS.items() if column not in left_out}
        for role, cells in rules.items()
    }


def _sentence(first: Sequence[Choice], other: Sequence[Choice], stored: Mapping[str, Rules]) -> str:
    rules, beside = (_read(group[0], stored[title_of(group[0].runs, stored)]) for group in (first, other))
    differing: dict[tuple[str, str, str], list[str]] = {}
    for role in rules:
        for heading, factor in rules[role].items():
            if (found := beside.get(role, {}).get(heading, factor)) != factor:
                differing.setdefault((heading, factor, found), []).append(role)
    parts = [f"{heading} of {numbers.listed(roles)} {a}, not {b}" for (heading, a, b), roles in differing.items()]
    choice = first[0]
    assert choice.width is not None
    m = choice.width / model(choice.chosen[0])["base_width"]
    return (
        f"{_named(first)} {'has' if len(first) == 1 else 'have'} other μP rules than {_named(other)}: "
        f"{'; '.join(parts)} (factors in the multiplicity of width, here {m:g}; all rules are in the appendix)."
    )


def _named(group: Sequence[Choice]) -> str:
    """Return the arms with their tables: ``A and B (mup_gdn)``."""
    tables = dict.fromkeys(choice.runs.parametrization for choice in group)
    return f"{numbers.names([choice.runs.arm for choice in group])} ({numbers.listed(list(tables))})"
