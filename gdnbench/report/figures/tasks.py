"""Accuracy on tasks: over the state's size, over the length of a sequence, and by arm."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullLocator, PercentFormatter

from gdnbench.report.comparing import Choice
from gdnbench.report.figures.drift import mark_interval
from gdnbench.report.figures.style import FAINT, colour, new_figure, styled
from gdnbench.report.numbers import plural, size
from gdnbench.report.statistics import Interval
from gdnbench.report.tasks import TaskArm, TaskStudy

LINES, MARKS = ("-", "--", ":", "-."), "osD^"
PANEL = 1.45  # inches


@styled
def accuracy_over_state(found: TaskStudy) -> Figure:
    """Draw a panel a number of pairs: accuracy over the bytes that one sequence carries, a point a width."""
    figure, axes = new_figure(len(found.cases), 1, height=0.9 + PANEL * len(found.cases))
    sizes: set[float] = set()
    for axis, (value, metric) in zip(axes, found.cases.items(), strict=True):
        axis.set_title(plural(value, "pair"))
        axis.set_xscale("log", base=2)
        _accuracy(axis)
        for arm, (line, mark) in zip(found.shown, _styles(found.shown), strict=True):
            points = [(choice.first("state_bytes"), arm.accuracy(width, metric)) for width, choice in _chosen(arm)]
            known = [(state, mean) for state, mean in points if state is not None and mean is not None]
            sizes |= {state for state, _ in known}
            _line(axis, known, arm, line, mark, label=axis is axes[0])
    _size_ticks(axes[-1], sizes)
    axes[-1].set_xlabel("state of a sequence")
    figure.legend(loc="outside lower center", ncols=2, handlelength=2.8)
    return figure


@styled
def accuracy_over_length(found: TaskStudy) -> Figure:
    """Draw a panel a width: accuracy over the length of a word, with the training length and a guess's accuracy."""
    figure, axes = new_figure(len(found.widths), 1, height=1.3 + 1.9 * len(found.widths))
    for axis, width in zip(axes, found.widths, strict=True):
        if len(found.widths) > 1:
            axis.set_title(f"width {width}")
        axis.set_xscale("log", base=2)
        _accuracy(axis)
        axis.axvline(found.seq_len, color=FAINT, lw=0.9)
        if found.chance is not None:
            axis.axhline(found.chance, color=FAINT, lw=0.9, ls=":")
        for arm, (line, mark) in zip(found.shown, _styles(found.shown), strict=True):
            points = [(float(length), arm.accuracy(width, metric)) for length, metric in found.cases.items()]
            known = [(length, mean) for length, mean in points if mean is not None]
            _line(axis, known, arm, line, mark, label=axis is axes[0])
    axes[-1].xaxis.set_ticks(list(found.cases))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes[-1].xaxis.set_minor_locator(NullLocator())
    axes[-1].set_xlabel("length (tokens); grey line: training")
    figure.legend(loc="outside lower center", ncols=2, handlelength=2.8)
    return figure


@styled
def accuracy_by_arm(found: TaskStudy) -> Figure:
    """Draw a panel a case: every arm's accuracy at the one width, with its interval and its seeds."""
    arms, (width, *_) = found.shown, found.widths
    figure, axes = new_figure(len(found.cases), 1, height=0.5 + (0.35 + 0.25 * len(arms)) * len(found.cases))
    for axis, (value, metric) in zip(axes, found.cases.items(), strict=True):
        axis.set_title(plural(value, "pair") if found.axis == "pairs" else f"length {value}")
        for place, arm in enumerate(arms):
            mean, tone = arm.accuracy(width, metric), colour(arm.runs.arch)
            if mean is None:
                continue
            values = list(arm.by_width[width].by_seed(metric).values())
            axis.plot(values, [place] * len(values), ".", color=tone, alpha=0.4, markersize=4)
            mark_interval(axis, _clipped(mean), place, tone)
        axis.set_yticks(range(len(arms)), [arm.runs.arm for arm in arms])
        axis.set_ylim(len(arms) - 0.5, -0.5)
        axis.set_xlim(-0.03, 1.03)
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
        axis.grid(visible=False, axis="y")
    axes[-1].set_xlabel("accuracy")
    return figure


def _chosen(arm: TaskArm) -> list[tuple[int, Choice]]:
    return [(width, choice) for width, choice in sorted(arm.by_width.items()) if choice.chosen]


def _line(
    axis: Axes, points: Sequence[tuple[float, Interval]], arm: TaskArm, line: str, mark: str, *, label: bool
) -> None:
    """Draw an arm's means with their intervals, kept between 0 and 1."""
    tone = colour(arm.runs.arch)
    shown = [(x, _clipped(mean)) for x, mean in points]
    low = [mean.mean - (mean.mean if mean.low is None else mean.low) for _, mean in shown]
    high = [(mean.mean if mean.high is None else mean.high) - mean.mean for _, mean in shown]
    axis.errorbar(
        [x for x, _ in shown], [mean.mean for _, mean in shown], yerr=[low, high], color=tone, linestyle=line,
        marker=mark, markersize=4, capsize=2, elinewidth=1.0, label=arm.runs.arm if label else None,
    )  # fmt: skip


def _clipped(value: Interval) -> Interval:
    """Return an interval of shares without what lies beyond 0 and 1."""
    low, high = (None if limit is None else min(1.0, max(0.0, limit)) for limit in (value.low, value.high))
    return Interval(mean=value.mean, low=low, high=high, n=value.n)


def _styles(arms: Sequence[TaskArm]) -> list[tuple[str, str]]:
    """Return line and mark of arms, which tell arms of one architecture (and colour) apart."""
    seen: dict[str, int] = {}
    styles = []
    for arm in arms:
        rank = seen[arm.runs.arch] = seen.get(arm.runs.arch, -1) + 1
        styles.append((LINES[rank % len(LINES)], MARKS[rank % len(MARKS)]))
    return styles


def _accuracy(axis: Axes) -> None:
    axis.set_ylim(-0.04, 1.04)
    axis.yaxis.set_major_locator(MultipleLocator(0.25))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_ylabel("accuracy")


def _size_ticks(axis: Axes, sizes: set[float]) -> None:
    """Put ticks at the powers of 4 among sizes in bytes, or of 2 where these are few."""
    low, high = min(sizes, default=1.0) / 1.1, 1.1 * max(sizes, default=1.0)
    powers = [2.0**power for power in range(40) if low <= 2.0**power <= high]
    fours = [power for power in powers if power in {4.0**place for place in range(20)}]
    axis.xaxis.set_major_locator(FixedLocator(fours if len(fours) > 2 else powers or sorted(sizes)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value).replace(".00", "").replace(".0", "")))
    axis.xaxis.set_minor_locator(NullLocator())
