"""The best learning rate over the length of training, a panel an arm and a line a width."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from gdnbench.report.figures.style import colour, new_figure, power_ticks, shades, styled
from gdnbench.report.horizon import Horizons
from gdnbench.report.numbers import count


@styled
def horizon_lines(arms: Sequence[Horizons]) -> Figure:
    """Draw the fitted optimum of every width over training tokens, with the 95% interval over 3 seeds or more."""
    figure, axes = new_figure(len(arms), 1, height=0.6 + 1.9 * len(arms))
    lengths = sorted({tokens for arm in arms for tokens in arm.by_tokens})
    for axis, arm in zip(axes, arms, strict=True):
        axis.set_title(arm.runs.arm, fontweight="bold")
        axis.set_xscale("log", base=2)
        tones = shades(colour(arm.runs.arch), len(arm.slopes))
        for place, (tone, width) in enumerate(zip(tones, arm.slopes, strict=True)):
            # Moved aside a little, so that widths of equal optima can be told apart.
            _line(axis, arm, width, tone, 2.0 ** (0.07 * (place - (len(tones) - 1) / 2)))
        axis.set_ylabel("best learning rate")
        power_ticks(axis, which="y")
        axis.margins(x=0.12, y=0.15)
    axes[-1].xaxis.set_ticks(lengths)
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes[-1].xaxis.set_minor_locator(NullLocator())
    axes[-1].set_xlabel("training tokens")
    return figure


def _line(axis: Axes, arm: Horizons, width: int, tone: str, aside: float) -> None:
    found = {t: fitted.curves[width].interval for t, fitted in arm.by_tokens.items() if width in fitted.curves}
    known = {tokens: interval for tokens, interval in found.items() if interval is not None}
    if not known:
        return
    reach = [interval.half_width or 0.0 for interval in known.values()]
    centres = [interval.mean for interval in known.values()]
    places = [tokens * aside for tokens in known]
    axis.errorbar(places, centres, yerr=reach, color=tone, marker="o", capsize=2.5)
    axis.annotate(
        f"{width}", (places[0], centres[0]), (-6, 7 if aside > 1 else -7), textcoords="offset points", ha="right",
        va="center", color=tone, fontsize=8.5, fontweight="bold",
    )  # fmt: skip
