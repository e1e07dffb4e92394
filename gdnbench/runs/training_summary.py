"""Training speeds as a short table for a terminal."""

from collections.abc import Sequence

from gdnbench.measure.training.case import OURS
from gdnbench.results import Record
from gdnbench.runs.bench_summary import formatted, line, reason

COLUMNS = ("impl", "tokens/s", "spread", "ours/it", "of floor", "MFU", "peak GiB", "first step")
WIDTHS = (22, 10, 8, 8, 9, 7, 9, 10)


def table(records: Sequence[Record]) -> list[str]:
    """Return lines: a heading for each model and size, a line for each record, ours first."""
    lines: list[str] = []
    heading = ""
    for record in records:
        if (title := _title(record)) != heading:
            heading = title
            lines += ["", title, line(COLUMNS, WIDTHS)]
        lines.append(line(_cells(record, records), WIDTHS))
    return lines[1:]


def brief(record: Record) -> str:
    """Return a record's result in a few words, for the eye of who waits."""
    rate, memory, first = (record.metric(name) for name in ("tokens_per_s", "peak_gib", "first_step_s"))
    if rate is None or memory is None or first is None:
        return reason(record)
    return f"{rate:,.0f} tokens/s, {memory:.1f} GiB, first step {first:.1f} s"


def _title(record: Record) -> str:
    spec, model = record.spec, record.spec["model"]
    return (
        f"{spec['arch']} ({spec['block']})  width {model['width']}, depth {model['depth']}, vocabulary "
        f"{model['vocab_size']}  batch {spec['batch']} x {spec['seq_len']}, {spec['dtype']}"
    )


def _cells(record: Record, records: Sequence[Record]) -> tuple[str, ...]:
    rate, floor = record.metric("tokens_per_s"), record.metric("floor_tokens_per_s")
    name = str(record.spec["impl"])
    if rate is None:
        return name, reason(record)
    ours = next(
        (r.metric("tokens_per_s") for r in records if r.spec["impl"] == OURS and _title(r) == _title(record)), None
    )
    return (
        name,
        f"{rate:,.0f}",
        formatted(record.metric("spread_tokens_per_s"), ",.0f"),
        formatted(None if ours is None or name == OURS else ours / rate, ".2f"),
        formatted(None if floor is None else rate / floor, ".0%"),
        formatted(record.metric("mfu"), ".1%"),
        formatted(record.metric("peak_gib"), ".1f"),
        formatted(record.metric("first_step_s"), ".1f") + (" warm" if record.spec["caches"] == "warm" else " s"),
    )
