"""Coordinate checks: sizes over width, and their slopes with intervals."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from gdnbench.report.activations import START, CoordinateCheck, SiteSlope, is_named, site_name
from gdnbench.report.figures.style import FAINT, colour, is_control, log2_ticks, new_figure, styled
from gdnbench.words import plural

# Sites that tell the story, by the end of their name; the last block of each is shown.
SHOWN = (
    (".q_proj", "#0072B2", "o"),
    (".a_proj", "#D55E00", "s"),
    (".b_proj", "#E69F00", "v"),
    (".dt_proj", "#D55E00", "s"),
    (".o_norm.in", "#6B6B6B", "P"),
    (".o_proj", "#009E73", "^"),
    (".out_proj", "#009E73", "^"),
    (".down_proj", "#CC79A7", "D"),
    ("logits", "#000000", "X"),
)
JUDGED = 0.2
TITLE, CROWDED = 12, 3  # letters of a line, and columns beyond which every other width has its number
DECADES = 2.5  # beyond which a tick at every 1, 2 and 5 would be on top of its neighbours
ROW, STEP = 0.23, 0.07  # inches of a site, and of each arm's mark in it beyond two


@styled
def size_lines(checks: Sequence[CoordinateCheck]) -> Figure:
    """Draw sizes over width of one architecture: rows are the start and the last update, columns the arms."""
    last = max(step for check in checks for step in check.steps())
    steps = [START] if last == START else [START, last]
    figure, axes = new_figure(len(steps), len(checks), height=0.9 + 2.1 * len(steps))
    for index, axis in enumerate(axes):
        step, check = steps[index // len(checks)], checks[index % len(checks)]
        _lines(axis, check, step)
        if index < len(checks):
            title = check.runs.arm
            if len(checks) > 2:
                title = textwrap.fill(title, TITLE, break_long_words=False)
            axis.set_title(title, fontweight="bold", fontsize=9.5 if len(checks) < 4 else 7.5)
        if index % len(checks) == 0:
            label = "size at the start" if step == START else f"update after {plural(step, 'step')}"
            axis.set_ylabel(f"{label}\n(root mean square)")
        if index >= len(axes) - len(checks):
            axis.set_xlabel("width")
        if len(checks) > CROWDED:
            log2_ticks(axis, check.runs.widths()[::2])
    _size_ticks(axes[0])
    handles = {str(line.get_label()): line for axis in axes for line in axis.get_lines()}
    handles = {label: line for label, line in handles.items() if not label.startswith("_")}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3, handlelength=1.6)
    return figure


@styled
def slope_dots(checks: Sequence[CoordinateCheck]) -> Figure:
    """Draw the slopes of one architecture's sites, last block: hollow a standard parametrization."""
    last = max(step for check in checks for step in check.steps())
    steps = [START] if last == START else [START, last]
    sites = list(dict.fromkeys(site for check in checks for site in _last_block(check) if is_named(site)))
    row = ROW + STEP * max(0, len(checks) - 2)
    figure, axes = new_figure(1, len(steps), height=1.3 + row * len(sites))
    arch = checks[0].runs.arch
    for axis, step in zip(axes, steps):
        axis.axvspan(-JUDGED, JUDGED, color="#ecece4", zorder=0)
        axis.axvline(0, color="#999999", linewidth=0.8)
        for index, check in enumerate(checks):
            _dots(axis, check, step, sites, index, len(checks))
        axis.set_title("at the start" if step == START else f"update, {plural(step, 'step')}")
        axis.set_xlabel("slope over width")
        axis.set_yticks(range(len(sites)), [site_name(site, arch, block=False) for site in sites])
    axes[0].set_ylim(len(sites) - 0.4, -0.6)
    handles = {str(line.get_label()): line for line in axes[0].get_lines()}
    handles = {label: line for label, line in handles.items() if not label.startswith("_")}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=2)
    return figure


def _lines(axis: Axes, check: CoordinateCheck, step: int) -> None:
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=10)
    sites, widths = _last_block(check), set()
    for ending, tone, marker in SHOWN:
        slope = next((check.find(site, step) for site in reversed(sites) if site.endswith(ending)), None)
        if slope is None:
            continue
        points = _mean_sizes(slope)
        widths |= set(points)
        name = site_name(slope.site, check.runs.arch, block=False).replace("readout o, ", "o ")
        axis.plot(list(points), list(points.values()), color=tone, marker=marker, label=name, markersize=4)
    log2_ticks(axis, sorted(widths))
    axis.minorticks_off()


def _size_ticks(axis: Axes) -> None:
    """Put ticks at 1, 2 and 5 of every decade, or at powers of ten alone where there are many; axes share them."""
    low, high = axis.get_ylim()
    subs = (1.0, 2.0, 5.0) if high / low < 10**DECADES else (1.0,)
    axis.yaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=12))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.7g}"))


def _dots(axis: Axes, check: CoordinateCheck, step: int, sites: Sequence[str], index: int, arms: int) -> None:
    tone = colour(check.runs.arch)
    hollow = is_control(check.runs.table)
    marker = "o" if hollow else ("o", "D", "s", "^")[(index - 1) % 4]
    label = check.runs.arm
    for place, site in enumerate(sites):
        slope = check.find(site, step)
        if slope is None or slope.slope is None:
            continue
        y = place + (index - (arms - 1) / 2) * min(0.32, 0.75 / arms)
        shade = FAINT if slope.exempt else tone
        reach = slope.slope.half_width or 0.0
        axis.errorbar(slope.slope.mean, y, xerr=reach, color=shade, linewidth=1.1, label="_")
        axis.plot(
            [slope.slope.mean], [y], marker, color=shade, markerfacecolor="white" if hollow else shade, label=label
        )  # fmt: skip
        label = "_"


def _last_block(check: CoordinateCheck) -> list[str]:
    """Return the sites outside the blocks and those of the last block."""
    blocks = [int(site.split(".")[1]) for site in check.sites() if site.startswith("blocks.")]
    last = f"blocks.{max(blocks, default=0)}"
    return [s for s in check.sites() if not s.startswith("blocks.") or s == last or s.startswith(f"{last}.")]


def _mean_sizes(slope: SiteSlope) -> dict[int, float]:
    """Return width -> geometric mean over seeds."""
    sizes = {width: [v for v in by_seed.values() if v > 0] for width, by_seed in sorted(slope.sizes.items())}
    return {width: float(np.exp(np.mean(np.log(values)))) for width, values in sizes.items() if values}
