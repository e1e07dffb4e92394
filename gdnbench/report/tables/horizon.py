"""The best learning rate over the length of training: optima, their slope over length, the drift at each length."""

from collections.abc import Sequence

from gdnbench.report import numbers
from gdnbench.report.content import Cell, Row, Table, missing, plain
from gdnbench.report.horizon import Horizons
from gdnbench.report.tables.cells import interval_cell
from gdnbench.report.tables.transfer import drift_cell
from gdnbench.report.transfer import WidthCurve


def horizon_table(arms: Sequence[tuple[str, Horizons]]) -> Table:
    """Return a row for each arm and length: the optimum at every width, and the drift over width."""
    widths = sorted({width for _, arm in arms for width in arm.slopes})
    rows = [
        Row(
            cells=(
                plain(experiment),
                plain(arm.runs.arm),
                plain(numbers.count(tokens), tokens),
                *(_optimum(fitted.curves.get(width)) for width in widths),
                drift_cell(fitted, reason="; ".join(fitted.flags) or numbers.MISSING),
            ),
            runs=fitted.runs.run_ids,
        )
        for experiment, arm in arms
        for tokens, fitted in arm.by_tokens.items()
    ]
    rows += [
        Row(
            cells=(
                plain(experiment),
                plain(arm.runs.arm),
                plain("octaves per doubling of the length"),
                *(_slope(arm, width) for width in widths),
                plain(""),
            ),
            runs=arm.runs.run_ids,
        )
        for experiment, arm in arms
    ]
    return Table(
        name="horizon",
        caption="Best learning rate over the length of training",
        columns=(
            "experiment",
            "arm",
            "training tokens",
            *(f"optimum at width {width} (log2)" for width in widths),
            "drift over width (octaves per doubling)",
        ),
        rows=tuple(rows),
        note=(
            "One run a rate and seed at a constant rate; from it runs of each length branch off and decay linearly. "
            "Optima and drift as in the tables above; the last rows are the slope of the optimum over log2 of the "
            "length, one a seed, Student t 95% interval over seeds."
        ),
        wide=(2, 3 + len(widths)),
    )


def _optimum(curve: WidthCurve | None) -> Cell:
    if curve is None:
        return missing(numbers.MISSING)
    return interval_cell(curve.interval, 2, reason=", ".join(curve.optimum.flags) or "censored")


def _slope(arm: Horizons, width: int) -> Cell:
    if width not in arm.slopes:
        return missing(numbers.MISSING)
    return interval_cell(arm.slopes[width], 3, reason="too few fitted optima")
