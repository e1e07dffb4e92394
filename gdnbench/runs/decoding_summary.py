"""Speeds of generation as a short table for a terminal."""

from collections.abc import Sequence
from typing import Any

from gdnbench.results import Record
from gdnbench.runs.bench_summary import formatted, line, reason

COLUMNS = ("impl", "batch", "context", "tokens/s", "of floor", "ms p50", "p99", "first ms", "prefill/s", "peak GiB")
WIDTHS = (16, 6, 8, 9, 9, 8, 8, 9, 10, 8)


def table(records: Sequence[Record]) -> list[str]:
    """Return lines: a heading for each model, a line for each record in the order that they came in."""
    lines: list[str] = []
    for title in dict.fromkeys(map(_title, records)):
        lines += ["", title, line(COLUMNS, WIDTHS)]
        lines += [line(_cells(record), WIDTHS) for record in records if _title(record) == title]
    return lines[1:]


def brief(record: Record) -> str:
    """Return a record's result in a few words, for the eye of who waits."""
    rate, share = record.metric("tokens_per_s"), _share(record)
    if rate is None or share is None:
        return reason(record)
    return f"{rate:,.1f} tokens/s, {share:.0%} of the floor"


def _title(record: Record) -> str:
    spec: Any = record.spec
    model = spec["model"]
    return (
        f"{spec['arch']} ({spec['block']}) {spec['size']}  width {model['width']}, depth {model['depth']}, "
        f"{(record.metric('params_total') or 0) / 1e6:,.1f}M parameters, random weights, {spec['dtype']}"
    )


def _cells(record: Record) -> tuple[str, ...]:
    spec = record.spec
    place = (str(spec["impl"]), str(spec["batch"]), f"{spec['context']:,}")
    rate = record.metric("tokens_per_s")
    if rate is None:
        return *place, reason(record)
    return (
        *place,
        f"{rate:,.1f}",
        formatted(_share(record), ".0%"),
        formatted(record.metric("ms_per_token_p50"), ".3f"),
        formatted(record.metric("ms_per_token_p99"), ".3f"),
        formatted(record.metric("ttft_ms"), ",.1f"),
        formatted(record.metric("prefill_tokens_per_s"), ",.0f"),
        formatted(record.metric("peak_gib"), ".2f"),
    )


def _share(record: Record) -> float | None:
    rate, floor = record.metric("tokens_per_s"), record.metric("floor_tokens_per_s")
    return None if rate is None or not floor else rate / floor
