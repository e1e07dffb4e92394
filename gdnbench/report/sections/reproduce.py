"""How to make this very page again, and the runs that it was made from."""

from collections import Counter
from collections.abc import Sequence

from gdnbench.report import numbers
from gdnbench.report.analysis import Analysis
from gdnbench.report.content import Block, Code, Row, Section, Table, Text, plain
from gdnbench.report.study import Study, seed_of
from gdnbench.report.tables.left import left_table
from gdnbench.report.tables.rules import rules_table
from gdnbench.report.tables.runs import runs_table
from gdnbench.results import Record


def reproduce(analysis: Analysis, command: str) -> Section:
    """Return section 6."""
    study = analysis.study
    blocks: list[Block] = [Text(text="This page was written by:"), Code(text=command)]
    if study.records:
        blocks.append(Text(text=seeds(study)))
        blocks.append(environments_table(study.records))
    if left := left_table(study):
        blocks.append(left)
    return Section(anchor="reproduce", title="6. How to reproduce this page", blocks=blocks)


def appendix(analysis: Analysis) -> Section:
    """Return the parametrization rules and the list of runs."""
    rules = rules_table(analysis.study)
    blocks: list[Block] = [] if rules is None else [rules]
    return Section(anchor="runs", title="Appendix: rules and runs", blocks=[*blocks, runs_table(analysis.study)])


def seeds(study: Study) -> str:
    """Return the sentence on the seeds of each experiment."""
    parts = []
    for experiment in study.experiments:
        if used := sorted({seed_of(record) for record in study.of_experiment(experiment.name)}):
            parts.append(f"{experiment.name}: {', '.join(map(str, used))}")
    return f"Seeds by experiment: {'; '.join(parts)}. Equal seeds see equal batches in all arms."


def environments_table(records: Sequence[Record]) -> Table:
    """Return a row for each environment that runs come from."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for record in records:
        groups.setdefault(_environment(record.environment, record.source_digest), []).append(record.run_id)
    return Table(
        name="environments",
        caption="Environments",
        columns=("commit", "source digest", "device", "driver", "workers", "backends", "versions"),
        rows=tuple(Row(cells=tuple(map(plain, key)), runs=tuple(runs)) for key, runs in sorted(groups.items())),
        wide=(6,),
    )


def commits(study: Study) -> dict[str, int]:
    """Return commit -> number of runs."""
    return dict(sorted(Counter(str(r.environment.get("commit") or "unknown") for r in study.shown).items()))


def _environment(environment: object, digest: str) -> tuple[str, ...]:
    info: dict[str, object] = dict(environment)  # type: ignore[call-overload]
    commit = str(info.get("commit") or "unknown")[:10] + (", changed" if info.get("dirty") else "")
    device = " ".join(str(info[key]) for key in ("device", "cpu") if info.get(key))
    return (
        commit,
        digest[:10],
        device,
        str(info.get("driver") or "none"),
        str(info.get("workers") or 1),
        _pairs(info.get("backends")),
        _pairs(info.get("versions")),
    )


def _pairs(values: object) -> str:
    items = sorted(dict(values or {}).items())  # type: ignore[call-overload]
    return numbers.listed([f"{name} {value}" for name, value in items]) or "none recorded"
