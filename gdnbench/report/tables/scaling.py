"""How optimum, curvature and loss go with width: what small widths foretell, and what is left at the limit."""

from collections.abc import Sequence

from gdnbench.report import numbers
from gdnbench.report.content import Row, Table, missing, plain
from gdnbench.report.scaling import Scaling
from gdnbench.report.statistics import t_interval
from gdnbench.report.statistics.scaling import MIN_LIMIT_WIDTHS
from gdnbench.report.tables.cells import interval_cell


def scaling_table(scalings: Sequence[tuple[str, Scaling]]) -> Table | None:
    """Return a row for each arm of three widths or more; None without any."""
    rows = [_row(experiment, entry) for experiment, entry in scalings if len(entry.fitted.curves) >= 3]
    if not rows:
        return None
    return Table(
        name="lr_scaling",
        caption="How well small widths foretell a large one",
        columns=(
            "experiment",
            "arm",
            "E: residual of the optimum about its line (octaves)",
            "error at the largest width, foretold by the others (octaves)",
            "κ: power of the width in the curvature",
            "loss at infinite width (nat/token)",
            "R(∞): that, above the lowest of the experiment (nat/token)",
        ),
        rows=tuple(rows),
        note=(
            "After arXiv 2605.21486; the formulas are this project's. E: root mean square residual of the seeds' mean "
            "optimum about its line over log2 width. κ: a fixed error of the rate costs more at larger widths where it "
            f"is above 0. Limit: L(∞) + A n^−γ through each seed's losses at its optimum; it takes {MIN_LIMIT_WIDTHS} "
            "widths and losses that bend. Intervals: Student t over seeds."
        ),
    )


def _row(experiment: str, entry: Scaling) -> Row:
    few = "not determined"
    limits = t_interval(entry.limits.values())
    return Row(
        cells=(
            plain(experiment),
            plain(entry.fitted.runs.arm),
            missing("needs optima at 3 widths")
            if entry.residual is None
            else plain(numbers.number(entry.residual, 3), entry.residual),
            interval_cell(entry.extrapolation, 2, reason="needs seeds with optima at 3 widths"),
            interval_cell(entry.kappa, 2, reason="needs seeds with minima at 3 widths"),
            interval_cell(limits, 3, reason=few),
            interval_cell(entry.excess, 3, reason=few),
        ),
        runs=entry.fitted.runs.run_ids,
    )
