"""Kernel records as a short table for a terminal, and as the sentence on those that are red."""

from collections.abc import Sequence

from gdnbench.results import Record
from gdnbench.runs.kernels import Outcome

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
            lines += ["", title, _line(COLUMNS)]
        lines.append(_line(_cells(record)))
    return lines[1:]


def closing(outcome: Outcome) -> list[str]:
    """Return what was left out for want of time."""
    if not outcome.left_out:
        return []
    return [
        f"left out, since the budget of seconds was used up: {len(outcome.left_out)} groups; the same command goes on"
    ] + [f"  {label}" for label in outcome.left_out]


def red_sentence(outcome: Outcome) -> str:
    """Return the sentence on records whose check is red or that broke; empty where there is none."""
    if not outcome.red:
        return ""
    first = outcome.red[0]
    return (
        f"{len(outcome.red)} of {len(outcome.records)} cases failed their correctness check or broke; the first is "
        f"{first.run_id}: {first.detail}"
    )


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
        _or_nothing(record.metric("spread_ms"), ".2g"),
        _or_nothing(ratio, ".2f"),
        _or_nothing(None if floor is None else ms / floor, ".2f"),
        _or_nothing(error, ".1e"),
    )


def _line(cells: Sequence[str]) -> str:
    padded = [f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS)]
    return "  " + " ".join(padded).rstrip()


def _or_nothing(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
