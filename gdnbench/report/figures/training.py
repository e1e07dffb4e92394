"""Training: loss over tokens, and final loss by arm."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from gdnbench.report import numbers
from gdnbench.report.comparing import Choice, comparable
from gdnbench.report.figures.style import arm_styles, colour, new_figure, styled
from gdnbench.report.study import Study


@styled
def training_curves(choices: Sequence[Choice], study: Study) -> Figure:
    """Draw training loss over tokens at each arm's chosen rate: mean over seeds, and their range."""
    figure, (axis,) = new_figure(height=3.5)
    for choice, (line, _) in zip(choices, _styles(choices)):
        runs = [_losses(study, run) for run in choice.run_ids]
        common = sorted(set.intersection(*(set(run) for run in runs))) if runs else []
        if not common:
            continue
        losses = np.array([[run[tokens] for tokens in common] for run in runs])
        tone = colour(choice.runs.arch)
        axis.plot(common, losses.mean(axis=0), label=choice.runs.arm, color=tone, linestyle=line)
        if len(runs) > 1:
            axis.fill_between(common, losses.min(axis=0), losses.max(axis=0), color=tone, alpha=0.18, lw=0)
    axis.set_xlabel("training tokens")
    axis.set_ylabel("training loss (nat/token)")
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    _cut_start(axis)
    figure.legend(loc="outside lower center", ncols=2, handlelength=2.4)
    return figure


@styled
def metric_dots(choices: Sequence[Choice], metric: str, label: str) -> Figure:
    """Draw one metric by arm: mean with its 95% interval over seeds, and every seed as a faint point.

    Speeds that do not compare have a panel, and an axis, for each number of runs that shared the machine.
    """
    hollow = {choice.runs.arm: style[1] for choice, style in zip(choices, _styles(choices))}
    panels = comparable(choices, metric)
    sizes = [max(2, len(arms)) for arms in panels.values()]
    height = 0.8 + 0.7 * (len(panels) - 1) + 0.36 * sum(sizes)
    figure, axes = new_figure(len(panels), height=height, share=False, heights=sizes)
    for axis, (at_once, arms) in zip(axes, panels.items(), strict=True):
        _dots(axis, arms, metric, hollow)
        if len(panels) > 1:
            axis.set_title(numbers.at_a_time(at_once) + (": lower limits" if max(at_once) > 1 else ""))
    axes[-1].set_xlabel(label)
    return figure


def _dots(axis: Axes, choices: Sequence[Choice], metric: str, hollow: Mapping[str, bool]) -> None:
    for place, choice in enumerate(choices):
        tone, mean = colour(choice.runs.arch), choice.mean(metric)
        values = list(choice.by_seed(metric).values())
        axis.plot(values, [place + 0.18] * len(values), ".", color=tone, alpha=0.5, markersize=5)
        if mean is None:
            continue
        if mean.half_width is not None:
            axis.errorbar(mean.mean, place, xerr=mean.half_width, color=tone, capsize=3, linewidth=1.3)
        axis.plot([mean.mean], [place], "o", color=tone, markerfacecolor="white" if hollow[choice.runs.arm] else tone)
    axis.set_yticks(range(len(choices)), [choice.runs.arm for choice in choices])
    axis.set_ylim(len(choices) - 0.5, -0.5)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def _styles(choices: Sequence[Choice]) -> list[tuple[str, bool]]:
    return arm_styles([(choice.runs.arch, choice.runs.table) for choice in choices])


def _losses(study: Study, run: str) -> dict[int, float]:
    rows = [row for row in study.rows(run) if row.get("type") == "train"]
    return {int(row["tokens"]): float(row["loss"]) for row in rows}


def _cut_start(axis: Axes) -> None:
    """Leave the first steps' losses out of the frame, where all arms fall alike."""
    lines = [np.asarray(line.get_ydata(), dtype=float) for line in axis.get_lines()]
    if not lines or max(len(line) for line in lines) < 8:
        return
    top = max(float(line[len(line) // 12]) for line in lines)
    low = min(float(line.min()) for line in lines)
    axis.set_ylim(low - 0.04 * (top - low), top + 0.08 * (top - low))
