"""Cells that several tables share: intervals, metrics, verdicts, figures of a source."""

import dataclasses

from gdnbench.claims.catalogue import Claim, Figure
from gdnbench.report import numbers
from gdnbench.report.content import Cell, Tone, missing
from gdnbench.report.statistics import Interval
from gdnbench.report.verdicts import Ruling

TONES: dict[Ruling, Tone] = {
    "reproduced": "good",
    "not reproduced": "bad",
    "partly": "mixed",
    "undecided": "mixed",
    "pending": "missing",
    "not testable here": "missing",
}


def interval_cell(value: Interval | None, digits: int = 3, *, unit: str = "", reason: str = numbers.MISSING) -> Cell:
    """Return ``mean ± half-width unit (n = …)``, or the reason why there is none."""
    if value is None:
        return missing(reason)
    return Cell(text=numbers.interval(value, digits, unit), value=value.mean, interval=value)


def scaled_cell(value: Interval | None, *, reason: str = numbers.MISSING) -> Cell:
    """Return an interval of a quantity of unknown size to three significant digits."""
    if value is None:
        return missing(reason)
    reach = "" if value.half_width is None else f" ± {numbers.significant(value.half_width, 2)}"
    return Cell(text=f"{numbers.significant(value.mean)}{reach} (n = {value.n})", value=value.mean, interval=value)


def count_cell(value: float | None, *, reason: str = numbers.MISSING) -> Cell:
    """Return a count such as ``1.31M``."""
    return missing(reason) if value is None else Cell(text=numbers.count(value), value=value)


def bytes_cell(value: float | None, *, reason: str = numbers.MISSING) -> Cell:
    """Return a size such as ``12.0 KiB``."""
    return missing(reason) if value is None else Cell(text=numbers.size(value), value=value)


def verdict_cell(verdict: Ruling) -> Cell:
    """Return a verdict in its colour."""
    return Cell(text=verdict, tone=TONES[verdict])


def figure_text(figure: Figure) -> str:
    """Return a source's figure as text: ``18.2 perplexity``, ``yes``, ``3.45, 3.11 nat/token at width 256, 512``."""
    value, unit = figure.value, f" {figure.unit}" if figure.unit else ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    prefix = f"{figure.comparison} " if figure.comparison else ""
    if not isinstance(value, tuple):
        text = value if isinstance(value, str) else _plain(value)
        return f"{prefix}{text}{unit}"
    shown = [_plain(item) for item in value]
    if figure.over == "range":
        return f"{prefix}{' to '.join(shown)}{unit}"
    places = ", ".join(numbers.count(place) for place in figure.at)
    return f"{prefix}{', '.join(shown)}{unit} at {figure.over} {places}"


def claimed_cell(claim: Claim, name: str) -> Cell:
    """Return one of a claim's figures, marked as the source's."""
    figure = claim.claimed.get(name)
    if figure is None:
        return missing("no figure given")
    value = figure.value if isinstance(figure.value, (bool, float, str)) else None
    return Cell(text=figure_text(figure), value=value, tone="source")


def claimed_number(claim: Claim, name: str) -> Cell:
    """Return one of a claim's figures without its unit, for a column that names it."""
    figure = claim.claimed.get(name)
    if figure is None:
        return missing("no figure given")
    cell = claimed_cell(claim, name)
    return Cell(text=figure_text(dataclasses.replace(figure, unit="")), value=cell.value, tone="source")


def claimed_briefly(claim: Claim) -> Cell:
    """Return the first of a claim's figures by name and value: ``gap: at most 0.3``."""
    name, figure = next(iter(claim.claimed.items()))
    values = figure.value if isinstance(figure.value, tuple) else (figure.value,)
    joined = (" to " if figure.over == "range" else " / ").join(f"{value:g}" for value in values)
    prefix = f"{figure.comparison} " if figure.comparison else ""
    return Cell(text=f"{name.replace('_', ' ')}: {prefix}{joined}", tone="source")


def claimed_text(claim: Claim) -> Cell:
    """Return all of a claim's figures, by name, marked as the source's."""
    if not claim.claimed:
        return Cell(text="no figure given", tone="source")
    parts = [f"{name.replace('_', ' ')}: {figure_text(figure)}" for name, figure in claim.claimed.items()]
    return Cell(text="; ".join(parts), tone="source")


def _plain(value: float) -> str:
    return numbers.count(value) if abs(value) >= 10_000 else f"{value:,g}".replace("-", "−")
