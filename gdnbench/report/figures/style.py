"""One look for all figures: sizes for a phone's width, a colour an architecture, output without dates."""

import colorsys
import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from gdnbench.report.numbers import power_of_two

P = ParamSpec("P")

WIDTH = 4.7  # inches: a phone's 358 CSS pixels scale its 9-point text to 7 points

# Okabe and Ito's palette, which stays apart for colour-blind readers.
COLOURS = {
    "transformer": "#0072B2",
    "gdn": "#D55E00",
    "mamba2": "#009E73",
    "rwkv7": "#CC79A7",
    "hybrid": "#E69F00",
}
OTHER = ("#56B4E9", "#8A6D00", "#6B6B6B", "#000000")
INK, FAINT = "#222222", "#8a8a8a"

STYLE: Any = {
    "figure.dpi": 96,
    "figure.facecolor": "white",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "text.color": INK,
    "svg.fonttype": "none",
}


def colour(arch: str) -> str:
    """Return the architecture's colour, the same in every figure."""
    return COLOURS.get(arch) or OTHER[sum(map(ord, arch)) % len(OTHER)]


def shades(base: str, n: int) -> list[str]:
    """Return ``n`` shades of a colour from light to dark, for the widths of one architecture."""
    hue, _, saturation = colorsys.rgb_to_hls(*to_rgb(base))
    lights = [0.72 - 0.5 * index / max(1, n - 1) for index in range(n)] if n > 1 else [0.4]
    return [to_hex(colorsys.hls_to_rgb(hue, light, saturation * 0.9)) for light in lights]


def arm_styles(arms: Sequence[tuple[str, str]]) -> list[tuple[str, bool]]:
    """Return line style and whether the marker is hollow, for arms given as (architecture, table).

    A standard parametrization is dashed and hollow beside another arm of its architecture; further arms of one
    architecture are told apart by dots.
    """
    styles: list[tuple[str, bool]] = []
    plain: dict[str, int] = {}
    for arch, table in arms:
        twins = sum(other == arch for other, _ in arms)
        if twins > 1 and is_control(table):
            styles.append(("--", True))
            continue
        rank = plain[arch] = plain.get(arch, -1) + 1
        styles.append((("-", "-.", ":")[rank % 3], False))
    return styles


def is_control(table: str) -> bool:
    """Say whether a parametrization is a standard one, drawn hollow and dashed."""
    return table.startswith("sp")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function draw in the report's style, which matplotlib reads while artists are made."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapped


def new_figure(
    rows: int = 1, columns: int = 1, *, height: float, share: bool = True, heights: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """Return a figure of the report's width and its axes, row by row; ``heights``: of the rows, beside one another."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=share, sharey=share, squeeze=False, height_ratios=heights)
    return figure, [axis for row in grid for axis in row]


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Return ascending heights moved as little as needed to lie ``gap`` from one another, about the same middle."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _lowest(groups[-1], gap) < _lowest(groups[-2], gap) + gap * len(groups[-2]):
            last = groups.pop()
            groups[-1] += last
    return [_lowest(group, gap) + gap * place for group in groups for place in range(len(group))]


def _lowest(group: Sequence[float], gap: float) -> float:
    """Return where the first of a group goes whose members follow one another by ``gap``."""
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


def log2_ticks(axis: Axes, values: Sequence[float], *, which: str = "x") -> None:
    """Put one tick at each value of a base-2 axis and write the value in full."""
    target = axis.xaxis if which == "x" else axis.yaxis
    target.set_ticks(list(values))
    target.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    target.set_minor_locator(NullLocator())


def power_ticks(axis: Axes, *, which: str = "x") -> None:
    """Write an axis's values, which are log2, as powers of 2."""
    target = axis.xaxis if which == "x" else axis.yaxis
    locator = MaxNLocator(integer=True, nbins=8) if which == "x" else MaxNLocator(nbins=6, steps=[1, 5, 10])
    target.set_major_locator(locator)
    target.set_major_formatter(FuncFormatter(lambda value, _: power_of_two(value)))
