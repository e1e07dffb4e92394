"""Kernels: under the roofs of the device, and how far above the floor."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from gdnbench.report.figures.style import FAINT, INK, OTHER, new_figure, styled
from gdnbench.report.kernels import DIRECTIONS, OURS, Place, Timed, shape_text

COLOURS = {OURS: "#D55E00", "fla": "#0072B2", "flash_qla": "#009E73", "flashinfer": "#CC79A7", "torch": FAINT}
MARKERS = "osD^vPX<>p*"

Panels = dict[str, list[Timed]]  # by direction


@styled
def roofline(panels: Panels, roofs: tuple[float, float]) -> Figure:
    """Draw rate over intensity below the calibrated roofs (GB/s, TFLOP/s), a panel a direction.

    Operations and bytes are the least ones, so that a kernel's height is its floor's share.
    """
    figure, axes = new_figure(len(panels), 1, height=0.9 + 2.4 * len(panels))
    shapes = list(dict.fromkeys(timed.shape for rows in panels.values() for timed in rows))
    places = [_place(timed) for rows in panels.values() for timed in rows]
    low, high = min(x for x, _ in places) / 1.6, max(x for x, _ in places) * 1.6
    for axis, (direction, rows) in zip(axes, panels.items()):
        _roofs(axis, roofs, low, high)
        for timed in rows:
            marker = MARKERS[shapes.index(timed.shape) % len(MARKERS)]
            axis.plot(*_place(timed), marker, color=colour(timed.impl), markersize=5.5, markeredgecolor="white",
                      markeredgewidth=0.5, zorder=4 if timed.impl == OURS else 3)  # fmt: skip
        axis.set_title(DIRECTIONS[direction], fontweight="bold")
        axis.set_ylabel("TFLOP/s")
        axis.set_xlim(low, high)
        _plain_log(axis)
    axes[-1].set_xlabel("operations for each byte")
    impls = list(dict.fromkeys(timed.impl for rows in panels.values() for timed in rows))
    _legend(figure, impls, shapes)
    return figure


@styled
def over_floor(panels: Panels) -> Figure:
    """Draw time over the floor as bars, a group a shape, a panel a direction."""
    impls = list(dict.fromkeys(timed.impl for rows in panels.values() for timed in rows))
    shapes = list(dict.fromkeys(timed.shape for rows in panels.values() for timed in rows))
    height = 0.17 * (len(impls) + 1) * len(shapes)
    figure, axes = new_figure(len(panels), 1, height=0.8 + len(panels) * (height + 0.3))
    for axis, (direction, rows) in zip(axes, panels.items()):
        _bars(axis, rows, shapes, impls)
        axis.set_title(DIRECTIONS[direction], fontweight="bold")
    axes[-1].set_xlabel("time over the floor")
    handles = [Line2D([], [], color=colour(impl), linewidth=6) for impl in impls]
    figure.legend(handles, impls, loc="outside lower center", ncols=4, handlelength=0.8)
    return figure


def colour(impl: str) -> str:
    """Return a backend's colour, the same in every figure."""
    return COLOURS.get(impl) or OTHER[sum(map(ord, impl)) % len(OTHER)]


def _place(timed: Timed) -> tuple[float, float]:
    """Return operations for each byte, and TFLOP/s."""
    flops, nbytes, ms = (timed.any.metric(name) for name in ("flops", "bytes", "ms"))
    assert flops is not None and nbytes is not None and ms is not None
    return flops / nbytes, flops / ms / 1e9


def _roofs(axis: Axes, roofs: tuple[float, float], low: float, high: float) -> None:
    bandwidth, rate = roofs
    x = np.geomspace(low, high, 200)
    axis.plot(x, np.minimum(bandwidth * x / 1e3, rate), color=INK, linewidth=1.1, zorder=2)
    axis.text(high / 1.05, rate * 1.1, f"matmul {rate:,.0f} TFLOP/s", ha="right", va="bottom", fontsize=7.5)
    inside = low * (high / low) ** 0.12
    axis.text(inside, 0.8 * bandwidth * inside / 1e3, f"copy {bandwidth:,.0f} GB/s", va="top", fontsize=7.5)


def _bars(axis: Axes, rows: Sequence[Timed], shapes: Sequence[Place], impls: Sequence[str]) -> None:
    step = 1 / (len(impls) + 1)
    for place, shape in enumerate(shapes):
        times = {timed.impl: far for timed in rows if timed.shape == shape and (far := timed.over_floor) is not None}
        shown = [impl for impl in impls if impl in times]
        for index, impl in enumerate(shown):
            y = place + (index - (len(shown) - 1) / 2) * step
            axis.barh(y, times[impl], height=0.86 * step, color=colour(impl), zorder=2)
            axis.text(times[impl], y, f" {times[impl]:.1f}", va="center", fontsize=7)
    axis.axvline(1, color=INK, linewidth=0.9, zorder=3)
    axis.set_yticks(range(len(shapes)), [shape_text(shape) for shape in shapes])
    axis.set_ylim(len(shapes) - 0.5, -0.5)
    axis.set_xlim(0, 1.12 * max(timed.over_floor or 0.0 for timed in rows))
    axis.grid(visible=False, axis="y")


def _plain_log(axis: Axes) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))
        side.set_minor_locator(NullLocator())
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _legend(figure: Figure, impls: Sequence[str], shapes: Sequence[Place]) -> None:
    handles = [Line2D([], [], marker="o", linestyle="", color=colour(impl)) for impl in impls]
    handles += [
        Line2D([], [], marker=MARKERS[index % len(MARKERS)], linestyle="", color=FAINT) for index in range(len(shapes))
    ]
    labels = [*impls, *map(shape_text, shapes)]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=1.0, fontsize=7.5)
