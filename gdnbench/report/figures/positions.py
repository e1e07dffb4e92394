"""Loss by position, to beyond the training length."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from gdnbench.report.comparing import Choice
from gdnbench.report.figures.style import FAINT, arm_styles, colour, new_figure, styled
from gdnbench.report.study import Study
from gdnbench.report.tasks import LengthStudy

# Arms that forget how to read beyond their training would hide all others: the frame ends so far above the best.
REACH = 1.5


@styled
def loss_by_position(found: LengthStudy, study: Study) -> Figure:
    """Draw loss over the tokens read before, in bins half an octave wide: mean and range over seeds."""
    figure, (axis,) = new_figure(height=3.6)
    choices = [choice for choice in found.choices if choice.chosen]
    axis.set_xscale("log", base=2)
    axis.axvline(found.seq_len, color=FAINT, lw=0.9)
    lows, tops = [], []
    for choice, (line, _) in zip(choices, arm_styles([(c.runs.arch, c.runs.table) for c in choices]), strict=True):
        places, losses = _curves(choice, study)
        if not len(losses):
            continue
        tone, mean = colour(choice.runs.arch), losses.mean(axis=0)
        axis.plot(places, mean, label=choice.runs.arm, color=tone, linestyle=line)
        axis.fill_between(places, losses.min(axis=0), losses.max(axis=0), color=tone, alpha=0.18, lw=0)
        lows.append(mean.min())
        tops.append(mean[np.asarray(places) <= found.seq_len].max())
    if lows:
        low, top = min(lows), max(*tops, min(lows) + REACH)
        axis.set_ylim(low - 0.05 * (top - low), top + 0.05 * (top - low))
    axis.xaxis.set_ticks([2**power for power in range(0, max(found.cases).bit_length(), 2)])
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("position (tokens read before); grey line: training length")
    axis.set_ylabel("loss (nat/token)")
    figure.legend(loc="outside lower center", ncols=2, handlelength=2.4)
    return figure


def _curves(choice: Choice, study: Study) -> tuple[list[float], np.ndarray]:
    """Return the bins' middles and the losses ``[seeds, bins]`` of an arm's runs that have all bins."""
    runs: Sequence[list[dict[str, float]]] = [
        [row for row in study.rows(run) if row.get("type") == "position"] for run in choice.run_ids
    ]
    most = max(map(len, runs), default=0)
    full = [rows for rows in runs if len(rows) == most]
    places = [(row["first"] * row["last"]) ** 0.5 for row in full[0]] if full else []
    return places, np.array([[row["loss"] for row in rows] for rows in full])
