"""The parametrization rules of the set's arms, as they were when it was run."""

from collections.abc import Iterable, Mapping

from gdnbench.configuration import read_json
from gdnbench.report.content import Row, Table, plain
from gdnbench.report.study import ArmRuns, Study

HEADINGS = {
    "init": "start",
    "forward": "forward factor",
    "adamw": "AdamW rate",
    "sgd": "SGD rate",
    "decay": "weight decay",
    "epsilon": "epsilon",
}


Rules = Mapping[str, Mapping[str, str]]
"""role -> column -> factor, as text."""


def stored_rules(study: Study) -> dict[str, Rules]:
    """Return the rules of each parametrization, by the title that the table gives it."""
    rules: dict[str, Rules] = {}
    for path in study.snapshots("*.rules.json"):
        rules |= read_json(path)
    return rules


def title_of(runs: ArmRuns, titles: Iterable[str]) -> str:
    """Return the title of an arm's parametrization in that table; its name where the table has none of it."""
    name = runs.parametrization
    return next((title for title in titles if title.endswith(f": {name}")), name)


def rules_table(study: Study) -> Table | None:
    """Return a row for each role of each parametrization; None where the set has no snapshot of its rules."""
    rules = stored_rules(study)
    if not rules:
        return None
    rows = [
        Row(cells=tuple(map(plain, (title, role, *(cells[column] for column in HEADINGS)))))
        for title, roles in rules.items()
        for role, cells in roles.items()
    ]
    return Table(
        name="rules",
        caption="Parametrization rules",
        columns=("parametrization", "role", *HEADINGS.values()),
        rows=tuple(row for row in rows if any(cell.text not in ("0", "1") for cell in row.cells[2:])),
        more=tuple(row for row in rows if all(cell.text in ("0", "1") for cell in row.cells[2:])),
        note=(
            "Factors on the values at the base width, in the multiplicities of width (m), fan-in and fan-out; roles "
            "that a parametrization does not scale are in the files only. Decay 0: the role never decays."
        ),
        runs_column=False,
    )
