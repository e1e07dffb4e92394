"""Generation over context: tokens per second and bytes of state."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from gdnbench.report.decoding import points
from gdnbench.report.figures.style import arm_styles, colour, log2_ticks, new_figure, styled
from gdnbench.report.numbers import size
from gdnbench.report.study import ArmRuns


@styled
def decode_lines(arms: Sequence[ArmRuns], metric: str, label: str) -> Figure:
    """Draw a metric of generation over context, both on logarithmic axes, with the interval over runs."""
    figure, (axis,) = new_figure(height=3.2)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    contexts: set[int] = set()
    styles = arm_styles([(arm.arch, arm.table) for arm in arms])
    for arm, (style, _) in zip(arms, styles):
        found = [(point.context, mean) for point in points(arm) if (mean := point.mean(metric)) is not None]
        if not found:
            continue
        line: dict[str, Any] = {
            "color": colour(arm.arch),
            "linestyle": style,
            "marker": "o",
            "capsize": 2.5,
        }
        reach = [mean.half_width or 0.0 for _, mean in found]
        axis.errorbar([c for c, _ in found], [mean.mean for _, mean in found], yerr=reach, label=arm.arm, **line)
        contexts |= {context for context, _ in found}
    log2_ticks(axis, sorted(contexts))
    axis.set_xlabel("context (tokens)")
    axis.set_ylabel(label)
    _label_heights(axis, nbytes="bytes" in metric)
    figure.legend(loc="outside lower center", ncols=2, handlelength=2.4)
    return figure


def _label_heights(axis: Axes, *, nbytes: bool) -> None:
    """Write bytes at powers of 2 and other quantities at 1, 2, 3, 5 and 7 times powers of 10."""
    locator = LogLocator(base=2, numticks=7) if nbytes else LogLocator(base=10, subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
    write = size if nbytes else lambda value: f"{value:,.4g}"
    axis.yaxis.set_major_locator(locator)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    axis.yaxis.set_minor_locator(NullLocator())
