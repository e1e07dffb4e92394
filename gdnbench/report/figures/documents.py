"""Differences between arms by text: with the error of the documents, and with that of the seeds."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gdnbench.report.documents import Difference
from gdnbench.report.figures.drift import mark_interval
from gdnbench.report.figures.style import FAINT, arm_styles, colour, new_figure, styled


@styled
def difference_dots(found: Sequence[Difference], reference: str) -> Figure:
    """Draw a panel a text: each arm's bits per byte minus the reference's, above over documents, below over seeds."""
    shown = [difference for difference in found if difference.by_document is not None]
    places = list(dict.fromkeys(difference.place for difference in shown))
    arms = list(dict.fromkeys(difference.choice.runs.arm for difference in shown))
    # The reference is not drawn, but an arm is hollow beside it, too.
    runs = {difference.choice.runs.arm: difference.choice.runs for difference in found}
    styles = dict(zip(runs, arm_styles([(own.arch, own.table) for own in runs.values()]), strict=True))
    figure, axes = new_figure(len(places), 1, height=0.55 + (0.45 + 0.34 * len(arms)) * len(places))
    for axis, place in zip(axes, places, strict=True):
        axis.set_title(place.name)
        axis.axvline(0.0, color=FAINT, lw=0.9)
        here = [difference for difference in shown if difference.place == place]
        for difference in here:
            _, hollow = styles[difference.choice.runs.arm]
            row, tone = arms.index(difference.choice.runs.arm), colour(difference.choice.runs.arch)
            assert difference.by_document is not None
            mark_interval(axis, difference.by_document, row - 0.14, tone, hollow=hollow)
            if difference.by_seed is not None:
                mark_interval(axis, difference.by_seed, row + 0.16, FAINT, hollow=hollow)
        axis.set_yticks(range(len(arms)), arms)
        axis.set_ylim(len(arms) - 0.5, -0.5)
        axis.grid(visible=False, axis="y")
    axes[-1].xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}".replace("-", "−")))
    axes[-1].set_xlabel(f"bits per byte minus {reference} (lower is better)")
    return figure
