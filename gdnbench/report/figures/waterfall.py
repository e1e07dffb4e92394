"""A training step, part after part: what each takes, how much of that is its floor, and how much is above."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gdnbench.report.figures.style import FAINT, INK, new_figure, styled
from gdnbench.report.speeds import Component, Speed

FLOOR, ABOVE, BELOW = "#0072B2", "#E69F00", "#009E73"
ROOM = 1.4  # of the step's length, for the labels behind the bars


@styled
def waterfall(speed: Speed) -> Figure:
    """Draw the parts of a profiled step from left to right, each beginning where the one before it ended.

    A part's bar is its floor and what is above it; one that takes less than its floor has the floor as an outline.
    """
    parts = [part for part in speed.components if part.ms or part.floor_ms]
    total = sum(part.ms for part in parts)
    floor = sum(part.floor_ms or 0.0 for part in parts)
    figure, (axis,) = new_figure(height=1.25 + 0.27 * (len(parts) + 1))
    begin = 0.0
    for place, part in enumerate(parts):
        _bar(axis, place, begin, part)
        begin += part.ms
    _bar(axis, len(parts), 0.0, Component("step", total, floor, ()))
    axis.axhline(len(parts) - 0.5, color=FAINT, linewidth=0.7)
    axis.set_yticks(range(len(parts) + 1), [*(part.name for part in parts), "step"])
    axis.set_ylim(len(parts) + 0.5, -0.5)
    axis.set_xlim(0, ROOM * max(total, floor))
    axis.set_title(f"{speed.name}: one step", fontweight="bold")
    axis.set_xlabel("milliseconds")
    axis.grid(visible=False, axis="y")
    handles = [Patch(color=FLOOR), Patch(color=ABOVE), Patch(fill=False, edgecolor=BELOW, linestyle="--")]
    figure.legend(handles, ["floor", "above it", "floor of what takes less"], loc="outside lower center", ncols=3)
    return figure


def _bar(axis: Axes, place: int, begin: float, part: Component) -> None:
    """Draw one part and its label: milliseconds, and those above the floor."""
    least = part.floor_ms or 0.0
    inside = min(part.ms, least)
    axis.barh(place, inside, left=begin, height=0.62, color=FLOOR, zorder=2)
    axis.barh(place, part.ms - inside, left=begin + inside, height=0.62, color=ABOVE, zorder=2)
    if least > part.ms:
        axis.barh(place, least, left=begin, height=0.62, fill=False, edgecolor=BELOW, linestyle="--", zorder=3)
    gap = "" if part.floor_ms is None else f" ({part.gap_ms:+.1f})".replace("-", "−")
    axis.text(begin + max(part.ms, least), place, f" {part.ms:.1f}{gap}", va="center", fontsize=7.5, color=INK)
