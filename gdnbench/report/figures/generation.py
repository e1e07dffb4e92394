"""Generation over context, a panel a batch: tokens per second and memory, with the floors of each."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from gdnbench.report.figures.style import FAINT, colour, new_figure, styled
from gdnbench.report.generation import GB, Generation, Grid
from gdnbench.report.numbers import significant

Value = Callable[[Generation], float | None]


@styled
def throughput(found: Grid, size: str) -> Figure:
    """Draw tokens/s of our engine over context on logarithmic axes, and, dashed, those at the floor."""

    def floor(g: Generation) -> float | None:
        return g.record.metric("floor_tokens_per_s")

    return _panels(found, size, lambda g: g.rate, floor, "tokens/s", None)


@styled
def memory(found: Grid, size: str) -> Figure:
    """Draw peak memory while tokens are generated, and, dashed, that of weights and states alone.

    Dashes go on where the device's memory, a grey line, ends what can be measured.
    """

    def floor(g: Generation) -> float | None:
        least = g.record.metric("floor_gib")
        return None if least is None else least * GB

    limits = {value for g in found.found if (value := g.record.metric("device_gib")) is not None}
    limit = min(limits) * GB if limits else None
    return _panels(found, size, lambda g: g.memory_gb, floor, "memory (GB)", limit)


@styled
def prompts(found: Grid, size: str) -> Figure:
    """Draw prompt tokens/s of one row over context, and, dashed, those at the matmul floor."""
    figure, (axis,) = new_figure(height=3.2)
    for arch in found.archs:
        here = [g for g in found.ours(arch, size) if g.place[0] == 1]
        _line(axis, here, lambda g: g.record.metric("prefill_tokens_per_s"), arch, "-")
        _line(axis, here, lambda g: g.record.metric("prefill_floor_tokens_per_s"), arch, "--")
    _axes(axis, _contexts(found, size))
    axis.set_ylabel("prompt tokens/s")
    axis.set_xlabel("context (tokens)")
    _legend(figure, found.archs)
    return figure


def _panels(found: Grid, size: str, value: Value, floor: Value, label: str, limit: float | None) -> Figure:
    batches = sorted({g.place[0] for arch in found.archs for g in found.ours(arch, size)})
    columns = min(2, len(batches))
    rows = -(-len(batches) // columns)
    figure, axes = new_figure(rows, columns, height=1.0 + 2.1 * rows)
    contexts = _contexts(found, size)
    for axis, batch in zip(axes, batches, strict=False):
        for arch in found.archs:
            here = [g for g in found.ours(arch, size) if g.place[0] == batch]
            _line(axis, here, value, arch, "-")
            _line(axis, here, floor, arch, "--")
        if limit is not None:
            axis.axhline(limit, color=FAINT, linewidth=0.9, zorder=1)
        axis.set_title(f"batch {batch}", fontweight="bold")
        _axes(axis, contexts)
    for axis in axes[len(batches) :]:
        axis.set_visible(False)
    for place, axis in enumerate(axes):
        if place % columns == 0:
            axis.set_ylabel(label)
        if place // columns == rows - 1:
            axis.set_xlabel("context (tokens)")
    _legend(figure, found.archs, limit=limit is not None)
    return figure


def _line(axis: Axes, here: Sequence[Generation], value: Value, arch: str, style: str) -> None:
    points = [(g.place[1], y) for g in here if (y := value(g)) is not None]
    whole = style == "-"
    axis.plot(
        [x for x, _ in points], [y for _, y in points], style, color=colour(arch), marker="o" if whole else None,
        linewidth=1.6 if whole else 1.0, alpha=1.0 if whole else 0.75, zorder=3 if whole else 2,
    )  # fmt: skip


def _axes(axis: Axes, contexts: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.xaxis.set_ticks(list(contexts))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else significant(value, 1))
    )
    axis.yaxis.set_minor_locator(NullLocator())


def _short(value: float) -> str:
    return f"{value / 1024:,.0f}k" if value >= 1024 and value % 1024 == 0 else f"{value:,.0f}"


def _contexts(found: Grid, size: str) -> list[int]:
    return sorted({g.place[1] for arch in found.archs for g in found.ours(arch, size)})


def _legend(figure: Figure, archs: Sequence[str], *, limit: bool = False) -> None:
    handles = [Line2D([], [], color=colour(arch), marker="o") for arch in archs]
    handles.append(Line2D([], [], color="#555555", linestyle="--", linewidth=1.0))
    labels = [*archs, "floor"]
    if limit:
        handles.append(Line2D([], [], color=FAINT, linewidth=0.9))
        labels.append("device's memory")
    figure.legend(handles, labels, loc="outside lower center", ncols=3 if limit else 4, handlelength=1.8)
