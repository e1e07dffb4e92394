"""Kernel timings: ours and the peers' beside one another, with ratio, distance to the floor and error."""

from collections.abc import Sequence

from gdnbench.report import numbers
from gdnbench.report.content import Cell, Row, Table, missing, plain
from gdnbench.report.kernels import (
    DIRECTIONS,
    FUSED,
    GATES,
    MIXERS,
    OURS,
    QK_NORMS,
    Timed,
    Timings,
    by_size,
    place,
    shape_text,
)
from gdnbench.report.statistics import Interval
from gdnbench.results import Record

SHAPE = "B, T, H, K, V"
NOTE = (
    "Median ± half of the range from the 10th to the 90th percentile, over rounds in which the backends of a shape and "
    "regime were timed in turn, over inputs that together exceed the L2 cache threefold. Device: the GPU's work alone "
    "(CUDA graph); eager: one call with its launches. Ratio: the peer's time over this one, paired by round, with its "
    "95% bootstrap interval; the peer itself has none. Floor: the larger of least bytes over copy bandwidth and "
    "operations over matmul rate, both calibrated in the same run. Errors: relative, against float64."
)


def delta_tables(timings: Timings) -> list[Table]:
    """Return a table for each treatment of q and k and each direction that has records."""
    tables = []
    for qk, qk_words in QK_NORMS.items():
        for direction, words in DIRECTIONS.items():
            rows = timings.select("gated_delta", qk_norm=qk, direction=direction)
            if rows:
                caption = f"Gated delta rule, {words}; {qk_words}"
                tables.append(_side_by_side(f"kernels_{qk}_{direction}", caption, rows))
    return tables


def step_table(timings: Timings) -> Table | None:
    """Return the decode step, with its share of copy bandwidth; None without records."""
    rows = timings.select("gated_delta_step")
    if not rows:
        return None
    return Table(
        name="kernels_step",
        caption="Gated delta rule, one decode step with a float32 state in place",
        columns=(
            SHAPE, "q and k", "backend", "device (ms)", "eager (ms)", "ratio to peer", "share of copy bandwidth",
            "error",
        ),
        rows=tuple(
            Row(
                cells=(
                    plain(shape_text(row.shape)),
                    plain(row.any.spec["qk_norm"]),
                    plain(row.impl),
                    time_cell(row.of("device")),
                    time_cell(row.of("eager")),
                    ratio_cell(row),
                    _share(row),
                    error_cell(row.any, "max_rel_error"),
                ),
                runs=row.run_ids,
            )
            for row in rows
        ),
        note="Share: the least time to read and write the state, over the device time (eager where there is none).",
    )  # fmt: skip


def gating_table(timings: Timings) -> Table | None:
    """Return what the gating normalization costs; None without records."""
    pairs = timings.gating()
    if not pairs:
        return None
    return Table(
        name="kernels_gating",
        caption="Cost of the gating normalization: raw gates, multiplied by gate_scale inside the call or not",
        columns=(SHAPE, "direction", "backend", "without (ms)", "with (ms)", "time with over time without"),
        rows=tuple(
            Row(
                cells=(
                    plain(shape_text(scaled.shape)),
                    plain(DIRECTIONS[scaled.any.spec["direction"]]),
                    plain(scaled.impl),
                    time_cell(unscaled.any),
                    time_cell(scaled.any),
                    _cost(scaled.ratio),
                ),
                runs=(*unscaled.run_ids, *scaled.run_ids),
            )
            for unscaled, scaled in pairs
        ),
        note="Paired by round; 95% bootstrap interval of the median in brackets.",
    )


def mixers_table(timings: Timings) -> Table | None:
    """Return the mixers of others beside our gated delta rule at the same sizes; None without records."""
    others = [timed for op in MIXERS for timed in timings.select(op)]
    if not others:
        return None
    sizes = {row.shape for row in others}
    ours = timings.select("gated_delta", impl=OURS, gates="default", qk_norm="given")
    beside = [row for row in ours if row.shape in sizes]
    rows = sorted([*beside, *others], key=lambda row: (by_size(row.shape), row.any.spec["direction"], row in others))
    return _side_by_side("kernels_mixers", "Other mixers at the same sizes", rows, operations=True)


def fused_table(timings: Timings) -> Table | None:
    """Return the operations around the recurrence; None without records."""
    rows = [timed for op in FUSED for timed in timings.select(op)]
    if not rows:
        return None
    caption = (
        "Around the recurrence: short convolution of q, k, v with SiLU; gated norm of the output; head and loss of B T "
        "tokens, width K, V words"
    )
    return _side_by_side("kernels_fused", caption, rows, operations=True)


def first_call_table(timings: Timings) -> Table | None:
    """Return the times from the start of a process; None without records."""
    records = timings.first_calls()
    if not records:
        return None
    return Table(
        name="kernels_first_call",
        caption="From the start of a process to the first finished forward and backward, compilation caches empty",
        columns=(SHAPE, "backend", "seconds", "of these before the call"),
        rows=tuple(
            Row(
                cells=(
                    plain(shape_text(place(record))),
                    plain(record.spec["impl"]),
                    _seconds(record, "ms"),
                    _seconds(record, "ready_ms"),
                ),
                runs=(record.run_id,),
            )
            for record in records
        ),
        note="Before the call: starting Python, imports, drawing the inputs.",
    )


def kernel_runs_table(records: Sequence[Record]) -> Table:
    """Return a row a record: what the page's numbers were made from."""
    return Table(
        name="runs",
        caption="All timings of this set",
        columns=("run", "variant", "outcome", "ms", "how", "rounds", "commit", "source digest", "detail"),
        rows=tuple(
            Row(
                cells=(
                    plain(record.run_id),
                    plain(record.spec["variant"]),
                    outcome_cell(record),
                    time_cell(record),
                    plain(record.data.get("how") or ""),
                    plain(f"{record.metric('repeats') or 0:.0f}", record.metric("repeats")),
                    *origin_cells(record),
                ),
                anchor=f"run-{record.run_id}",
            )
            for record in records
        ),
        runs_column=False,
        wide=(0, 8),
    )


def _side_by_side(name: str, caption: str, rows: Sequence[Timed], *, operations: bool = False) -> Table:
    """Return one row a kernel; the rows of a shape and regime follow each other, ours first."""
    first = ("direction", "operation") if operations else ("gates",)
    return Table(
        name=name,
        caption=caption,
        columns=(
            SHAPE, *first, "backend", "device (ms)", "eager (ms)", "ratio to peer", "floor (ms)",
            "time over floor", "output error", "gradient error", "extra memory (GiB)",
        ),
        rows=tuple(_row(row, operations=operations) for row in rows),
        note=NOTE,
    )  # fmt: skip


def _row(row: Timed, *, operations: bool) -> Row:
    spec, floor, memory = row.any.spec, row.any.metric("floor_ms"), row.any.metric("peak_extra_gib")
    first = (plain(DIRECTIONS[spec["direction"]]), plain(spec["op"])) if operations else (plain(GATES[spec["gates"]]),)
    far = row.over_floor
    return Row(
        cells=(
            plain(shape_text(row.shape)),
            *first,
            plain(row.impl),
            time_cell(row.of("device")),
            time_cell(row.of("eager")),
            ratio_cell(row),
            missing("unknown") if floor is None else plain(numbers.significant(floor), floor),
            missing("") if far is None else plain(numbers.number(far, 2), far),
            error_cell(row.any, "output_error"),
            error_cell(row.any, "gradient_error"),
            missing("") if memory is None else plain(numbers.significant(memory), memory),
        ),
        runs=row.run_ids,
    )


def time_cell(record: Record | None) -> Cell:
    """Return a time, or in its place that the check is red, or why there is none."""
    if record is None:
        return missing(numbers.MISSING)
    ms = record.metric("ms")
    if record.data.get("correct") is False:
        return Cell(text=f"wrong: {record.detail}", tone="bad")
    if ms is None:
        return missing(record.detail or record.outcome)
    spread = record.metric("spread_ms")
    return Cell(text=numbers.significant(ms) + ("" if spread is None else f" ± {spread / 2:.2g}"), value=ms)


def ratio_cell(row: Timed) -> Cell:
    """Return the ratio to the peer with its interval."""
    ratio = row.ratio
    if ratio is not None:
        return Cell(text=ratio_text(ratio), value=ratio.mean, interval=ratio)
    return plain("")


def ratio_text(ratio: Interval) -> str:
    """Return ``2.75 [2.70, 2.81]``."""
    if ratio.low is None or ratio.high is None:
        return numbers.number(ratio.mean, 2)
    return f"{numbers.number(ratio.mean, 2)} [{numbers.number(ratio.low, 2)}, {numbers.number(ratio.high, 2)}]"


def error_cell(record: Record, name: str) -> Cell:
    """Return a relative error."""
    value = record.metric(name)
    return missing("") if value is None else plain(f"{value:.1e}".replace("e-0", "e-").replace("-", "−"), value)


def _share(row: Timed) -> Cell:
    far = row.over_floor
    return missing("") if far is None else plain(f"{100 / far:.0f}%", 1 / far)


def _cost(ratio: Interval | None) -> Cell:
    """Return the inverse of a ratio to the call without the normalization."""
    if ratio is None or ratio.low is None or ratio.high is None:
        return missing(numbers.MISSING)
    cost = Interval(mean=1 / ratio.mean, low=1 / ratio.high, high=1 / ratio.low, n=ratio.n)
    text = f"{numbers.number(cost.mean, 4)} [{numbers.number(1 / ratio.high, 4)}, {numbers.number(1 / ratio.low, 4)}]"
    return Cell(text=text, value=cost.mean, interval=cost)


def _seconds(record: Record, name: str) -> Cell:
    value = record.metric(name)
    return missing(record.detail) if value is None else plain(numbers.number(value / 1e3, 1), value / 1e3)


def outcome_cell(record: Record) -> Cell:
    """Return the outcome of a timing, in its colour."""
    if record.data.get("correct") is False:
        return Cell(text="wrong", tone="bad")
    return Cell(text=record.outcome, tone="bad" if record.outcome == "failed" else "")


def what_ran(record: Record) -> str:
    """Return what decided which kernels ran."""
    ran = record.data.get("what_ran") or {}
    return ", ".join(f"{name} {value}" for name, value in sorted(ran.items()))


def origin_cells(record: Record, *more: str) -> tuple[Cell, Cell, Cell]:
    """Return what made a record: commit, source digest, and its detail, with ``more``, what ran and its notes."""
    detail = "; ".join(filter(None, (record.detail, *more, what_ran(record), *record.notes)))
    return plain(record.commit), plain(record.source_digest[:10]), plain(detail)
