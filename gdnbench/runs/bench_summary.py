"""What the timing commands say in a terminal at their end: lines of a table, what was left out, what is red."""

from collections.abc import Sequence

from gdnbench.results import Record
from gdnbench.runs.bench import Outcome
from gdnbench.words import plural


def line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return cells padded to their columns' widths, indented by two."""
    padded = [f"{cell:<{width}}" for cell, width in zip(cells, widths)]
    return "  " + " ".join(padded).rstrip()


def formatted(value: float | None, form: str) -> str:
    """Return a number in a format, or nothing where there is none."""
    return "" if value is None else format(value, form)


def reason(record: Record) -> str:
    """Return why a record has no time."""
    word = "RED" if record.data.get("correct") is False else record.outcome
    return f"{word}: {record.detail}"


def closing(outcome: Outcome, noun: str) -> list[str]:
    """Return what was left out for want of time, one ``noun`` or several."""
    if not outcome.left_out:
        return []
    count = plural(len(outcome.left_out), noun)
    return [f"left out, since the budget of seconds was used up: {count}; the same command goes on"] + [
        f"  {label}" for label in outcome.left_out
    ]


def red_sentence(outcome: Outcome) -> str:
    """Return the sentence on records whose check is red or that broke; empty where there is none."""
    if not outcome.red:
        return ""
    first = outcome.red[0]
    return (
        f"{len(outcome.red)} of {plural(len(outcome.records), 'case')} failed their correctness check or broke; "
        f"the first is {first.run_id}: {first.detail}"
    )
