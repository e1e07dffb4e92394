"""What the pages of timings share: what a set holds, what qualifies it, notes in words, how to make it again."""

from collections.abc import Iterable, Sequence
from typing import Any

from gdnbench.configuration import read_yaml
from gdnbench.errors import GdnbenchError
from gdnbench.report import numbers
from gdnbench.report.content import Block, Bullets, Code, Heading, Notice, Section, Text
from gdnbench.report.kernels import roofs
from gdnbench.report.sections.reproduce import environments_table
from gdnbench.report.study import Study
from gdnbench.report.tables.left import bench_left, bench_left_table
from gdnbench.results import Record
from gdnbench.words import are

NOTES = "notes.yaml"  # in the set's folder: a name, such as a kernel's at a shape -> a sentence


def held(study: Study, records: Sequence[Record], noun: str) -> Text:
    """Return what a set holds: so many of ``noun``, devices, commits, ceilings."""
    devices = sorted({str(record.environment.get("device")) for record in records})
    commits = sorted({record.commit for record in records})
    ceilings = roofs(records)
    measured = (
        ""
        if ceilings is None
        else f" Ceilings measured in the same runs: {_read(records)}copy {ceilings[0]:,.0f} GB/s, matmul "
        f"{numbers.significant(ceilings[1], 3)} TFLOP/s."
    )
    return Text(
        text=f"The set {study.name} holds {numbers.plural(len(records), noun)} on {numbers.listed(devices)}, at "
        f"{'commit' if len(commits) == 1 else 'commits'} {numbers.listed(commits)}.{measured}"
    )


def qualified(study: Study, records: Sequence[Record], noun: str) -> list[Notice]:
    """Return what qualifies the numbers: what is not measured, red checks, mixed sources or machines, changed trees."""
    texts = []
    for content in bench_left(study, records[0].kind):
        left = sum(row["measurements"] for row in content["rows"])
        texts.append(
            f"This set is not complete: {left} of {numbers.plural(left + content['stored'], 'measurement')} of the "
            f"bench {are(left)} left; a table below lists them with the command."
        )
    if wrong := [record.run_id for record in records if record.data.get("correct") is False]:
        texts.append(f"The check is red, and no time is shown, for {numbers.listed(wrong[:5])}{_more(wrong)}.")
    if broken := [record.run_id for record in records if record.outcome == "failed"]:
        texts.append(f"These broke: {numbers.listed(broken[:5])}{_more(broken)}.")
    for what, values in (
        ("source digests", {record.source_digest[:10] for record in records}),
        ("devices", {str(record.environment.get("device")) for record in records}),
        ("commits", {record.commit for record in records}),
    ):
        if len(values) > 1:
            texts.append(f"The {noun}s come from {len(values)} {what}: {numbers.listed(sorted(values))}.")
    if dirty := sum(bool(record.environment.get("dirty")) for record in records):
        texts.append(f"{numbers.plural(dirty, noun)} of {len(records)} had uncommitted changes in the tree.")
    return [Notice(text=text) for text in texts] + [
        Notice(text=f"Damaged and not used: {problem}.") for problem in study.damaged
    ]


def noted(study: Study, names: Iterable[str], heading: str, unexplained: str) -> list[Block]:
    """Return the set's notes on these names under a heading, and a notice (``unexplained``) of those without one."""
    notes = _read_notes(study)
    names = list(dict.fromkeys(names))
    said = [f"{name}: {notes[name]}" for name in names if name in notes]
    open_ones = [name for name in names if name not in notes]
    blocks: list[Block] = []
    if said:
        blocks += [Heading(text=heading), Bullets(items=tuple(said))]
    if open_ones:
        blocks.append(Notice(text=f"{unexplained}: {'; '.join(open_ones)}."))
    return blocks


def reproduction(number: int, study: Study, records: Sequence[Record], command: str, measured: str) -> Section:
    """Return the section on how to make a page again, by its command and the one that stored its records, and on what
    is left to measure."""
    kind = records[0].kind
    blocks: list[Block] = []
    if left := bench_left_table(study, kind):
        blocks = [left, Text(text="What is left is measured by:")]
        blocks += [Code(text=content["command"]) for content in bench_left(study, kind)]
    return Section(
        anchor="reproduce",
        title=f"{number}. How to reproduce this page",
        blocks=(
            Text(text="This page was written by:"),
            Code(text=command),
            Text(text="from records that were stored by:"),
            Code(text=measured),
            environments_table(records),
            *blocks,
        ),
    )


def _read(records: Sequence[Record]) -> str:
    """Return the median of what reading alone reached, where records have it."""
    found = sorted(value for record in records if (value := record.metric("read_gb_s")) is not None)
    return f"read {found[len(found) // 2]:,.0f} GB/s, " if found else ""


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 5} more" if len(names) > 5 else ""


def _read_notes(study: Study) -> dict[str, Any]:
    path = study.stores[0].folder / NOTES
    notes = read_yaml(path) if path.exists() else {}
    for name, text in notes.items():
        if not isinstance(text, str):
            raise GdnbenchError(f"{path}: {name}: expected a sentence, found {text!r}")
    return notes
