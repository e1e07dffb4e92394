"""Drift of the best learning rate over width: every arm of a set on one axis, beside the bound of the verdict."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdnbench.report.figures.style import FAINT, colour, is_control, new_figure, styled
from gdnbench.report.statistics import Interval
from gdnbench.report.transfer import Transfer

PALE = 0.4  # how much of its colour a mean has that is of too few seeds for an interval


@styled
def drift_dots(groups: Sequence[tuple[str, Sequence[Transfer]]], bound: float) -> Figure:
    """Draw a line an arm, in (heading, arms) groups: its drift with the 95% interval, every seed as a faint point."""
    rows = sum(1 + len(arms) for _, arms in groups)
    figure, (axis,) = new_figure(height=0.85 + 0.24 * max(4, rows))
    places: list[float] = []
    names: list[str] = []
    place = 0.0
    for heading, arms in groups:
        axis.text(
            0.0, place, heading, transform=axis.get_yaxis_transform(), fontsize=8, color=FAINT, va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip
        for fitted in arms:
            place += 1
            places.append(place)
            names.append(fitted.runs.arm)
            _row(axis, place, fitted)
        # Beside the rows alone: the heading above them stays clear.
        rows_of = (place - len(arms) + 0.5, place + 0.5)
        axis.fill_betweenx(rows_of, -bound, bound, color="#e9eef3", lw=0, zorder=0)
        axis.plot([0.0, 0.0], rows_of, color=FAINT, lw=0.7, zorder=1)
        place += 1.15
    axis.set_yticks(places, names)
    axis.set_ylim(place - 0.4, -0.6)
    axis.grid(visible=False, axis="y")
    axis.set_xlabel("drift (octaves per doubling of width)")
    return figure


def _row(axis: Axes, place: float, fitted: Transfer) -> None:
    tone = colour(fitted.runs.arch)
    hollow = is_control(fitted.runs.table)
    seeds = list(fitted.slopes.values())
    if len(seeds) > 1:
        axis.plot(seeds, [place] * len(seeds), ".", color=tone, alpha=0.4, markersize=4)
    if fitted.drift is not None:
        mark_interval(axis, fitted.drift, place, tone, hollow=hollow)


def mark_interval(axis: Axes, value: Interval, place: float, tone: str, *, hollow: bool = False) -> None:
    """Draw an interval as a line with its mean as a circle, hollow for a standard parametrization.

    A mean of too few for an interval is pale, so that it does not look as sure as the others.
    """
    if value.low is not None and value.high is not None:
        axis.plot([value.low, value.high], [place, place], "-", color=tone, linewidth=1.4, solid_capstyle="butt")
        axis.plot([value.low, value.high], [place, place], "|", color=tone, markersize=5)
    sure = 1.0 if value.half_width is not None else PALE
    face = "white" if hollow else tone
    axis.plot([value.mean], [place], "o", color=tone, markerfacecolor=face, markersize=4.5, alpha=sure)
