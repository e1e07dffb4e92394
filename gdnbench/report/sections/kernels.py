"""The page of a set of kernel timings: what was found, figures and tables, what a reader must not miss."""

from collections.abc import Sequence

from gdnbench.report import numbers
from gdnbench.report.content import Block, Bullets, Figure, Figures, Section, Table, Text
from gdnbench.report.figures.kernels import Panels, over_floor, roofline
from gdnbench.report.kernels import DIRECTIONS, FAR, OURS, Timed, Timings, roofs, shape_text
from gdnbench.report.sections.timings import held, noted, qualified, reproduction
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


def kernel_sections(study: Study, command: str) -> tuple[Section, ...]:
    """Return the sections of a set that holds kernel timings."""
    timings = Timings(study.kernels)
    return (
        Section(anchor="summary", title="1. Summary", blocks=_summary(study, timings)),
        Section(anchor="delta", title="2. Gated delta rule", blocks=_delta(study, timings)),
        Section(anchor="rest", title="3. Decode step, gating, first call, other mixers", blocks=_rest(timings)),
        reproduction(4, study, study.kernels, command, f"gdnbench bench kernels --set {study.name}"),
        Section(anchor="runs", title="Appendix: timings", blocks=(kernel_runs_table(study.kernels),)),
    )


def _summary(study: Study, timings: Timings) -> list[Block]:
    blocks: list[Block] = [held(study, study.kernels, "timing")]
    if found := _findings(timings):
        blocks.append(Bullets(items=tuple(found)))
    return [*blocks, *qualified(study, study.kernels, "timing")]


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
    far = [row for row in timings.select("gated_delta", impl=OURS) if (row.over_floor or 0.0) > FAR]
    heading = f"Where {OURS} is over {FAR:g} times the floor"
    return noted(study, map(_name, far), heading, f"Over {FAR:g} times the floor without a note")


def _name(row: Timed) -> str:
    return f"{row.impl} {shape_text(row.shape)} {row.any.spec['direction']}"


def _rest(timings: Timings) -> list[Block]:
    tables: Sequence[Table | None] = (
        step_table(timings), gating_table(timings), first_call_table(timings), fused_table(timings),
        mixers_table(timings),
    )  # fmt: skip
    found = [table for table in tables if table is not None]
    return list(found) or [Text(text="This set holds none of these.")]
