"""Slopes of the coordinate checks: an arm and activation a row, the start and every number of steps a column."""

from collections.abc import Sequence

from gdnbench.report import numbers
from gdnbench.report.activations import START, CoordinateCheck, SiteSlope, is_named, site_name
from gdnbench.report.content import Cell, Row, Table, Tone, missing, plain
from gdnbench.report.statistics import position
from gdnbench.report.verdicts.activations import BOUND

TONES: dict[str, Tone] = {"inside": "good", "below": "bad", "above": "bad", "undecided": "mixed", "pending": "missing"}


def slopes_table(checks: Sequence[CoordinateCheck]) -> Table:
    """Return all slopes; the page shows the main ones of the last block, the files have all."""
    steps = sorted({step for check in checks for step in check.steps()})
    shown: list[Row] = []
    more: list[Row] = []
    for check in checks:
        for site in check.sites():
            row = _row(check, site, steps)
            (shown if _last_block(check, site) and is_named(site) else more).append(row)
    titles = [
        "size at the start" if step == START else f"update after {numbers.plural(step, 'step')}" for step in steps
    ]
    return Table(
        name="coordinate_slopes",
        caption="Slopes of activations over width",
        columns=("arm", "activation", *titles, "not judged"),
        rows=tuple(shown),
        note=(
            "Slope of log2 of the root mean square over log2 width: one a seed, Student t 95% interval over seeds. "
            f"Green: wholly inside ±{BOUND}; red: wholly outside; yellow: across a bound. The main activations of the "
            "last block are shown and all are judged, one that several modules put out once; the files have all."
        ),
        wide=(2 + len(titles),),
        more=tuple(more),
    )


def _row(check: CoordinateCheck, site: str, steps: Sequence[int]) -> Row:
    slopes = [check.find(site, step) for step in steps]
    exempt = sorted({slope.exempt for slope in slopes if slope is not None and slope.exempt})
    cells = (plain(check.runs.arm), plain(site_name(site, check.runs.arch), site), *map(_cell, slopes))
    return Row(cells=(*cells, plain("; ".join(exempt))), runs=check.runs.run_ids)


def _cell(slope: SiteSlope | None) -> Cell:
    if slope is None:
        return missing(numbers.MISSING)
    if slope.slope is None:
        return missing(slope.exempt or "fewer than 3 widths")
    tone: Tone = "" if slope.exempt else TONES[position(slope.slope, -BOUND, BOUND)]
    return Cell(text=numbers.interval(slope.slope, 2), value=slope.slope.mean, interval=slope.slope, tone=tone)


def _last_block(check: CoordinateCheck, site: str) -> bool:
    blocks = [int(name.split(".")[1]) for name in check.sites() if name.startswith("blocks.")]
    return not site.startswith("blocks.") or int(site.split(".")[1]) == max(blocks)
