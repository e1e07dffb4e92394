"""Loss over learning rate for every width, one panel a parametrization, on shared axes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdnbench.report.figures.style import apart, colour, new_figure, power_ticks, shades, styled
from gdnbench.report.transfer import Transfer, WidthCurve


@styled
def lr_transfer(transfers: Sequence[Transfer], beside: Sequence[Transfer] = ()) -> Figure:
    """Draw the sweeps of one architecture; panels are stacked so that optima can be compared down a line.

    The axes have room for the sweeps ``beside``, too, which another figure shows. Points: runs (crosses at the top
    edge: diverged). Lines: mean over seeds. Diamonds: fitted optima with their 95% interval over 3 seeds or more.
    Hollow triangles, where the best rate is at the edge of those that ran, point to where the optimum may lie.
    """
    shown = [transfer for transfer in transfers if transfer.curves]
    figure, axes = new_figure(len(shown), 1, height=0.5 + 2.35 * len(shown))
    for axis, transfer in zip(axes, shown):
        _panel(axis, transfer)
    _shared_limits(axes, [*shown, *(transfer for transfer in beside if transfer.curves)])
    for axis, transfer in zip(axes, shown):
        _name_widths(axis, transfer)
    power_ticks(axes[-1])
    axes[-1].set_xlabel("base learning rate")
    return figure


def _panel(axis: Axes, transfer: Transfer) -> None:
    axis.set_title(transfer.runs.arm, fontweight="bold")
    axis.set_ylabel("validation loss\n(nat/token)")
    for tone, curve in _toned(transfer):
        _curve(axis, curve, tone)


def _toned(transfer: Transfer) -> list[tuple[str, WidthCurve]]:
    return list(zip(shades(colour(transfer.runs.arch), len(transfer.curves)), transfer.curves.values()))


def _name_widths(axis: Axes, transfer: Transfer) -> None:
    """Write each width beside its line's first point in sight; those of one rate are moved apart."""
    low, high = axis.get_ylim()
    named = [
        (min(curve.mean.items(), key=lambda point: (point[1] > high, point[0])), curve.width, tone)
        for tone, curve in _toned(transfer)
        if curve.mean
    ]
    for rate in dict.fromkeys(rate for (rate, _), _, _ in named):
        here = sorted((loss, width, tone) for (own, loss), width, tone in named if own == rate)
        for height, (_, width, tone) in zip(apart([loss for loss, _, _ in here], 0.068 * (high - low)), here):
            axis.annotate(
                f"{width}", (rate, height), (-4, 0), textcoords="offset points", ha="right", va="center",
                color=tone, fontsize=8.5, fontweight="bold", annotation_clip=False,
            )  # fmt: skip


def _curve(axis: Axes, curve: WidthCurve, tone: str) -> None:
    for seed in curve.seeds.values():
        axis.plot(list(seed), list(seed.values()), ".", color=tone, alpha=0.45, markersize=4)
    for rate in sorted({rate for rates in curve.diverged.values() for rate in rates}):
        axis.plot([rate], [0.97], "x", color=tone, transform=axis.get_xaxis_transform(), markersize=5)
    if not curve.mean:
        return
    axis.plot(list(curve.mean), list(curve.mean.values()), "-", color=tone)
    _mark_optimum(axis, curve, tone)


def _mark_optimum(axis: Axes, curve: WidthCurve, tone: str) -> None:
    optimum = curve.optimum
    if optimum.best is not None and optimum.loss is not None and "edge" in optimum.flags:
        pointing = ">" if optimum.best == max(curve.mean) else "<"
        axis.plot([optimum.best], [optimum.loss], pointing, color="white", markeredgecolor=tone, markersize=7, zorder=6)
    if optimum.x is None or optimum.loss is None:
        return
    interval = curve.interval
    centre = interval.mean if interval is not None else optimum.x
    if interval is not None and interval.half_width is not None:
        axis.errorbar(centre, optimum.loss, xerr=interval.half_width, color="black", capsize=2.5, linewidth=1, zorder=5)
    axis.plot([centre], [optimum.loss], "D", color=tone, markeredgecolor="black", markersize=5.5, zorder=6)


def _shared_limits(axes: Sequence[Axes], transfers: Sequence[Transfer]) -> None:
    """Cut losses far above the bottom of the curves, so that their minima can be told apart."""
    means = [curve.mean for transfer in transfers for curve in transfer.curves.values() if curve.mean]
    if not means:
        return
    losses = np.array([loss for mean in means for loss in mean.values()])
    rates = [rate for mean in means for rate in mean]
    worst_minimum = max(min(mean.values()) for mean in means)
    points = [loss for t in transfers for c in t.curves.values() for seed in c.seeds.values() for loss in seed.values()]
    optima = [c.optimum.loss for t in transfers for c in t.curves.values() if c.optimum.loss is not None]
    low, high = (
        min([*points, *optima, losses.min()]),
        min(losses.max(), worst_minimum + 1.2 * (worst_minimum - losses.min()) + 0.3),
    )
    room = 0.06 * (high - low) or 0.05  # a single run has no range
    axes[0].set_ylim(low - room, high + room)
    axes[0].set_xlim(min(rates) - 0.09 * (max(rates) - min(rates) + 1), max(rates) + 0.3)
