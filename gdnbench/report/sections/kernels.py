"""The page of a set of kernel timings: what was found, figures and tables, what a reader must not miss."""

from collections.abc import Sequence
from typing import Any

from gdnbench.configuration import read_yaml
from gdnbench.errors import GdnbenchError
from gdnbench.report import numbers
from gdnbench.report.content import Block, Bullets, Code, Figure, Figures, Heading, Notice, Section, Table, Text
from gdnbench.report.figures.kernels import Panels, over_floor, roofline
from gdnbench.report.kernels import DIRECTIONS, FAR, OURS, Timed, Timings, roofs, shape_text
from gdnbench.report.sections.reproduce import environments_table
from gdnbench.report.study import Study
from gdnbench.report.tables.kernels import (
    delta_tables,
    first_call_table,
    fused_table,
    gating_table,
    kernel_runs_table,
    mixers_table,
    ratio_text,
    step_table,
)

NOTES = "notes.yaml"  # in the set's folder: "triton 8, 4096, 16, 128, 128 forward" -> what eats the time


def kernel_sections(study: Study, command: str) -> tuple[Section, ...]:
    """Return the sections of a set that holds kernel timings."""
    timings = Timings(study.kernels)
    return (
        Section(anchor="summary", title="1. Summary", blocks=_summary(study, timings)),
        Section(anchor="delta", title="2. Gated delta rule", blocks=_delta(study, timings)),
        Section(anchor="rest", title="3. Decode step, gating, first call, other mixers", blocks=_rest(timings)),
        Section(
            anchor="reproduce",
            title="4. How to reproduce this page",
            blocks=(
                Text(text="This page was written by:"),
                Code(text=command),
                Text(text="from records that were stored by:"),
                Code(text=f"gdnbench bench kernels --set {study.name}"),
                environments_table(study.kernels),
            ),
        ),
        Section(anchor="runs", title="Appendix: timings", blocks=(kernel_runs_table(study.kernels),)),
    )


def _summary(study: Study, timings: Timings) -> list[Block]:
    records = study.kernels
    devices = sorted({str(record.environment.get("device")) for record in records})
    commits = sorted({str(record.environment.get("commit") or "unknown")[:10] for record in records})
    ceilings = roofs(records)
    measured = (
        ""
        if ceilings is None
        else f" Ceilings measured in the same runs: copy {ceilings[0]:,.0f} GB/s, matmul {ceilings[1]:,.0f} TFLOP/s."
    )
    text = (
        f"The set {study.name} holds {numbers.plural(len(records), 'timing')} on {numbers.listed(devices)}, at "
        f"{'commit' if len(commits) == 1 else 'commits'} {numbers.listed(commits)}.{measured}"
    )
    blocks: list[Block] = [Text(text=text)]
    if found := _findings(timings):
        blocks.append(Bullets(items=tuple(found)))
    return [*blocks, *(Notice(text=text) for text in _warnings(study))]


def _findings(timings: Timings) -> list[str]:
    """Return a sentence for each peer, treatment of q and k, and direction: the range of ratios of our backend."""
    found = []
    for direction, words in DIRECTIONS.items():
        for qk in ("given", "raw"):
            rows = timings.select("gated_delta", direction=direction, qk_norm=qk, gates="default", impl=OURS)
            ratios = [(row.ratio, row) for row in rows if row.ratio is not None]
            if not ratios:
                continue
            least, worst = min(ratios, key=lambda pair: pair[0].mean)
            most, _ = max(ratios, key=lambda pair: pair[0].mean)
            found.append(
                f"{words.capitalize()}, q and k {qk}: {worst.any.data['peer']} takes {numbers.number(least.mean, 2)} "
                f"to {numbers.number(most.mean, 2)} times as long as {OURS} over {numbers.plural(len(rows), 'shape')} "
                f"(least: {shape_text(worst.shape)}, {ratio_text(least)})."
            )
    return found


def _warnings(study: Study) -> list[str]:
    """Return what qualifies the numbers: red checks, mixed sources or machines, changed trees."""
    records = study.kernels
    texts = []
    if wrong := [record.run_id for record in records if record.data.get("correct") is False]:
        texts.append(f"The check is red, and no time is shown, for {numbers.listed(wrong[:5])}{_more(wrong)}.")
    if broken := [record.run_id for record in records if record.outcome == "failed"]:
        texts.append(f"These broke: {numbers.listed(broken[:5])}{_more(broken)}.")
    for what, values in (
        ("source digests", {record.source_digest[:10] for record in records}),
        ("devices", {str(record.environment.get("device")) for record in records}),
        ("commits", {str(record.environment.get("commit") or "unknown")[:10] for record in records}),
    ):
        if len(values) > 1:
            texts.append(f"The timings come from {len(values)} {what}: {numbers.listed(sorted(values))}.")
    if dirty := sum(bool(record.environment.get("dirty")) for record in records):
        texts.append(f"{numbers.plural(dirty, 'timing')} of {len(records)} had uncommitted changes in the tree.")
    return texts + [f"Damaged and not used: {problem}." for problem in study.damaged]


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 5} more" if len(names) > 5 else ""


def _delta(study: Study, timings: Timings) -> list[Block]:
    tables = delta_tables(timings)
    if not tables:
        return [Text(text="This set holds no timing of whole sequences.")]
    return [*_figures(study, timings), *_notes(study, timings), *tables]


def _figures(study: Study, timings: Timings) -> list[Block]:
    """Return both figures at default gates: by q and k given where there are such, else raw."""
    for qk in ("given", "raw"):
        panels: Panels = {}
        for direction in DIRECTIONS:
            rows = timings.select("gated_delta", direction=direction, qk_norm=qk, gates="default")
            if shown := [row for row in rows if row.ms is not None]:
                panels[direction] = shown
        ceilings = roofs(study.kernels)
        if panels and ceilings is not None:
            break
    else:
        return []
    runs = tuple(sorted({run for rows in panels.values() for row in rows for run in row.run_ids}))
    regime = f"default gates, q and k {qk}"
    caption = (
        f"Roofline, {regime}: least operations over least bytes, and operations over time, below the copy bandwidth "
        "and matmul rate that the same runs measured. Colour: backend; marker: B, T, H, K, V."
    )
    bars = f"Time over the floor, {regime}; 1 is the least time that bytes or operations allow."
    return [
        Figures(
            figures=(
                Figure(name="kernels_roofline", caption=caption, plot=roofline(panels, ceilings), runs=runs),
                Figure(name="kernels_over_floor", caption=bars, plot=over_floor(panels), runs=runs),
            )
        )
    ]


def _notes(study: Study, timings: Timings) -> list[Block]:
    """Return what eats the time where our backend is far above the floor, or that nobody has said it yet."""
    notes = _read_notes(study)
    far = [row for row in timings.select("gated_delta", impl=OURS) if (row.over_floor or 0.0) > FAR]
    names = list(dict.fromkeys(_name(row) for row in far))
    said = [f"{name}: {notes[name]}" for name in names if name in notes]
    open_ones = [name for name in names if name not in notes]
    blocks: list[Block] = []
    if said:
        blocks += [Heading(text=f"Where {OURS} is over {FAR:g} times the floor"), Bullets(items=tuple(said))]
    if open_ones:
        blocks.append(Notice(text=f"Over {FAR:g} times the floor without a note: {'; '.join(open_ones)}."))
    return blocks


def _name(row: Timed) -> str:
    return f"{row.impl} {shape_text(row.shape)} {row.any.spec['direction']}"


def _read_notes(study: Study) -> dict[str, Any]:
    path = study.store.folder / NOTES
    notes = read_yaml(path) if path.exists() else {}
    for name, text in notes.items():
        if not isinstance(text, str):
            raise GdnbenchError(f"{path}: {name}: expected a sentence, found {text!r}")
    return notes


def _rest(timings: Timings) -> list[Block]:
    tables: Sequence[Table | None] = (
        step_table(timings), gating_table(timings), first_call_table(timings), fused_table(timings),
        mixers_table(timings),
    )  # fmt: skip
    found = [table for table in tables if table is not None]
    return list(found) or [Text(text="This set holds none of these.")]
