"""Generation: an arm and context a row."""

from collections.abc import Sequence

from gdnbench.report.content import Row, Table, plain
from gdnbench.report.decoding import DecodePoint, points
from gdnbench.report.study import ArmRuns, width_of
from gdnbench.report.tables.cells import bytes_cell, count_cell, scaled_cell


def decode_table(arms: Sequence[ArmRuns]) -> Table:
    """Return speed, latency, state and memory by arm and context."""
    rows = [_row(arm, point) for arm in arms for point in points(arm)]
    return Table(
        name="decode",
        caption="Generation, one token at a time",
        columns=(
            "arm",
            "width",
            "parameters",
            "batch",
            "context (tokens)",
            "tokens/s",
            "median (ms/token)",
            "99th percentile (ms/token)",
            "prompt (tokens/s)",
            "state a sequence",
            "weights (GiB)",
            "peak memory (GiB)",
        ),
        rows=tuple(rows),
        note="Mean ± half-width of the Student t 95% interval over n runs, left out below 3 runs.",
    )


def _row(arm: ArmRuns, point: DecodePoint) -> Row:
    params, state = point.mean("params_total"), point.mean("state_bytes")
    width = width_of(point.records[0])
    return Row(
        cells=(
            plain(arm.arm),
            plain(str(width), width),
            count_cell(None if params is None else params.mean),
            plain(str(point.batch), point.batch),
            plain(f"{point.context:,}", point.context),
            scaled_cell(point.mean("tokens_per_s")),
            scaled_cell(point.mean("ms_per_token_p50")),
            scaled_cell(point.mean("ms_per_token_p99")),
            scaled_cell(point.mean("prefill_tokens_per_s")),
            bytes_cell(None if state is None else state.mean),
            scaled_cell(point.mean("weights_gib")),
            scaled_cell(point.mean("peak_gib")),
        ),
        runs=tuple(sorted(record.run_id for record in point.records)),
    )
