"""Training speeds: ours and the peers' beside one another, and the parts of a step beside their floors."""

from collections.abc import Sequence

from gdnbench.report import numbers
from gdnbench.report.content import Cell, Row, Table, missing, plain
from gdnbench.report.speeds import SAME_WORK, Component, Group, Speed
from gdnbench.report.tables.kernels import origin_cells, outcome_cell, ratio_text
from gdnbench.results import Record

NOTE = (
    "Each row is a process of its own, one after the other: random tokens, AdamW, gradients clipped, weights in "
    "float32. How ours ran, the type of its residual stream included, stands in the appendix. A row shows a time "
    "only where its loss fell in the steps before the timed ones. Tokens/s: all timed steps together, ± half of the "
    "range from the 10th to the 90th percentile of single steps. Ours over it: our tokens/s over the row's, with "
    "its 95% bootstrap interval over steps (not over processes), where the parameters agree within "
    f"{100 * SAME_WORK:g}%. Of floor: tokens/s over those of the least step, from operations over matmul rate and "
    "bytes over copy bandwidth, both calibrated in the same run. MFU: FLOPs of the model's definition over the data "
    "sheet's dense peak. First step: from the built model to its end, compilation included, with empty caches "
    "unless it says warm; before it: starting Python, imports, building the model."
)
COMPONENTS_NOTE = (
    "Measured: the summed times of the kernels of a part, by their names, in a profile after the timed steps; idle: "
    "the rest of the step's median time. Floor: least operations and bytes of the part. Other: kernels whose names "
    "are not known. What an implementation fuses counts where the fused kernel's name puts it."
)


def speeds_table(groups: Sequence[Group]) -> Table:
    """Return one row an implementation; those of a model follow each other, ours first."""
    return Table(
        name="training_speed",
        caption="Training speed",
        columns=(
            "model", "implementation", "parameters", "tokens/s", "ours over it", "of floor", "MFU",
            "peak memory (GiB)", "our memory over it", "first step (s)", "before it (s)",
        ),
        rows=tuple(_row(group, speed) for group in groups for speed in group.speeds),
        note=NOTE,
    )  # fmt: skip


def components_table(speed: Speed) -> Table:
    """Return the parts of a profiled step with their longest kernels."""
    return Table(
        name=f"training_parts_{speed.name.replace(' ', '_')}",
        caption=f"Parts of a training step: {speed.name}",
        columns=("part", "measured (ms)", "floor (ms)", "above (ms)", "longest kernels (ms)"),
        rows=tuple(Row(cells=_component(part), runs=(speed.record.run_id,)) for part in speed.components),
        note=COMPONENTS_NOTE,
        wide=(4,),
    )


def speed_runs_table(records: Sequence[Record]) -> Table:
    """Return a row a record: what the page's numbers were made from."""
    return Table(
        name="runs",
        caption="All training speeds of this set",
        columns=("run", "outcome", "tokens/s", "steps", "loss", "commit", "source digest", "detail"),
        rows=tuple(
            Row(
                cells=(
                    plain(record.run_id),
                    outcome_cell(record),
                    _number(record, "tokens_per_s", 0),
                    plain(record.spec["steps"], record.spec["steps"]),
                    _losses(record),
                    *origin_cells(record, _way(record)),
                ),
                anchor=f"run-{record.run_id}",
            )
            for record in records
        ),
        runs_column=False,
        wide=(0, 7),
    )


def rate_cell(speed: Speed) -> Cell:
    """Return a throughput with its spread, or in its place why there is none."""
    record, rate = speed.record, speed.tokens_per_s
    if record.data.get("correct") is False:
        return Cell(text=f"red: {record.detail}", tone="bad")
    if rate is None:
        return missing(record.detail or record.outcome)
    spread = record.metric("spread_tokens_per_s") or 0.0
    return Cell(text=f"{numbers.number(rate, 0)} ± {numbers.number(spread / 2, 0)}", value=rate)


def ratio_cell(group: Group, speed: Speed) -> Cell:
    """Return how many times as fast ours is, or that the row is not the same work."""
    if ratio := group.ratio(speed):
        return Cell(text=ratio_text(ratio), value=ratio.mean, interval=ratio)
    if group.ours is not None and speed.tokens_per_s and group.difference(speed) is None:
        return missing("not the same work: the parameters differ")
    return plain("")


def _row(group: Group, speed: Speed) -> Row:
    far, memory = speed.of_floor, group.memory(speed)
    return Row(
        cells=(
            plain(group.title),
            plain(speed.impl),
            _number(speed.record, "params_total", 0),
            rate_cell(speed),
            ratio_cell(group, speed),
            _percent(far),
            _percent(speed.record.metric("mfu"), 1),
            _number(speed.record, "peak_gib", 1),
            _percent(memory),
            _first_step(speed.record),
            _number(speed.record, "ready_s", 1),
        ),
        runs=(speed.record.run_id,),
    )


def _component(part: Component) -> tuple[Cell, ...]:
    kernels = "; ".join(f"{name} {numbers.number(ms, 2)}" for name, ms in part.kernels[:3])
    floor = part.floor_ms
    return (
        plain(part.name),
        plain(numbers.number(part.ms, 2), part.ms),
        plain("") if floor is None else plain(numbers.number(floor, 2), floor),
        plain(numbers.number(part.gap_ms, 2), part.gap_ms),
        plain(kernels),
    )


def _first_step(record: Record) -> Cell:
    """Return seconds, and that something was compiled before where it was."""
    seconds = record.metric("first_step_s")
    if seconds is None or record.spec["caches"] == "cold":
        return _number(record, "first_step_s", 1)
    return plain(f"{numbers.number(seconds, 1)} (warm)", seconds)


def _way(record: Record) -> str:
    """Return how our own step ran: settings of its execution, and the type of the residual stream."""
    settings = record.spec["settings"]
    chosen = [f"{name} {value}" for name, value in settings.get("execution", {}).items()]
    return ", ".join([*chosen, *([f"residual stream {settings['residual']}"] if settings else [])])


def _losses(record: Record) -> Cell:
    first, last = record.metric("first_loss"), record.metric("gate_loss")
    if first is None or last is None:
        return plain("")
    return plain(f"{numbers.number(first, 2)} → {numbers.number(last, 2)}", last)


def _number(record: Record, name: str, digits: int) -> Cell:
    value = record.metric(name)
    return plain("") if value is None else plain(numbers.number(value, digits), value)


def _percent(value: float | None, digits: int = 0) -> Cell:
    return plain("") if value is None else plain(f"{numbers.number(100 * value, digits)}%", value)
