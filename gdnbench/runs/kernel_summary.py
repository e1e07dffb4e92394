"""Kernel records as a short table for a terminal."""

from collections.abc import Sequence

from gdnbench.results import Record
from gdnbench.runs.bench_summary import formatted, line

SHORT = {"forward": "fwd", "backward": "bwd", "forward_backward": "fwd+bwd", "first_call": "first"}
COLUMNS = ("backend", "direction", "clock", "ms", "spread", "x peer", "x floor", "error")
WIDTHS = (24, 9, 7, 9, 8, 7, 8, 8)


def table(records: Sequence[Record]) -> list[str]:
    """Return lines of at most 90 columns: a heading for each operation, shape and regime, a line for each record."""
    lines: list[str] = []
    heading = ""
    for record in sorted(records, key=_order):
        if (title := _title(record)) != heading:
            heading = title
            lines += ["", title, line(COLUMNS, WIDTHS)]
        lines.append(line(_cells(record), WIDTHS))
    return lines[1:]


def _order(record: Record) -> tuple[object, ...]:
    spec = record.spec
    sizes = tuple(spec[letter] for letter in "BTHKV")
    regime = (spec["gates"], spec["qk_norm"])
    return spec["op"], sizes, regime, bool(spec["variant"]), spec["timing"], len(spec["direction"]), spec["variant"]


def _title(record: Record) -> str:
    spec = record.spec
    sizes = ",".join(str(spec[letter]) for letter in "BTHKV")
    return f"{spec['op']}  B,T,H,K,V = {sizes}  gates {spec['gates']}, q and k {spec['qk_norm']}, {spec['dtype']}"


def _cells(record: Record) -> tuple[str, ...]:
    spec, ms = record.spec, record.metric("ms")
    name = " ".join((spec["impl"], *spec["variant"].split(", ")[-1:])).rstrip()
    start = (name, SHORT.get(spec["direction"], spec["direction"]), SHORT.get(spec["timing"], spec["timing"]))
    if ms is None:
        word = "WRONG" if record.data.get("correct") is False else record.outcome
        return (*start, f"{word}: {record.detail}"[:48])
    ratio, floor, error = record.metric("peer_ratio"), record.metric("floor_ms"), record.metric("max_rel_error")
    return (
        *start,
        f"{ms:.4g}",
        formatted(record.metric("spread_ms"), ".2g"),
        formatted(ratio, ".2f"),
        formatted(None if floor is None else ms / floor, ".2f"),
        formatted(error, ".1e"),
    )
