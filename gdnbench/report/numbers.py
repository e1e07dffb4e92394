"""Numbers as text: significant digits, units, intervals; the same number reads the same everywhere."""

import math
from collections.abc import Sequence

from gdnbench.report.statistics import Interval
from gdnbench.words import plural as plural

MISSING = "not measured in this set"


def number(value: float, digits: int = 3) -> str:
    """Return a number to a number of decimals, with a true minus sign and no negative zero."""
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def count(value: float) -> str:
    """Return a count: in full below 10,000, else in k, M, B or T with three significant digits."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scaled = value / (1e3 if unit == "k" else limit)
            return f"{significant(scaled)}{unit}"
    return significant(value, 4)


def significant(value: float, digits: int = 3) -> str:
    """Return a number to significant digits, without an exponent between 0.0001 and a million."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if abs(value) >= 1e6:
        return powers_of_ten(value, digits)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return number(value, min(decimals, 8))


def names(arms: Sequence[str]) -> str:
    """Return names of arms as a list; those that hold a comma are quoted, or it would read as two."""
    return listed([quoted(arm) for arm in arms])


def quoted(arm: str) -> str:
    """Return a name as a list needs it: in quotes where it holds a comma."""
    return f"“{arm}”" if "," in arm else arm


def powers_of_ten(value: float, digits: int = 3) -> str:
    """Return a large number such as ``5.85e9``; FLOPs are shown so."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    return f"{number(value / 10**exponent, digits - 1)}e{exponent}"


def size(nbytes: float) -> str:
    """Return bytes in B, KiB, MiB or GiB."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if nbytes >= 1024**power:
            return f"{significant(nbytes / 1024**power)} {unit}"
    return f"{nbytes:.0f} B"


def interval(value: Interval, digits: int = 3, unit: str = "") -> str:
    """Return ``mean ± half-width unit (n = …)``; without limits it says so by leaving out the ±."""
    tail = f" {unit}" if unit else ""
    shown = number if abs(value.mean) < 1e6 else lambda x, digits: powers_of_ten(x)
    if value.half_width is None:
        return f"{shown(value.mean, digits)}{tail} (n = {value.n})"
    return f"{shown(value.mean, digits)} ± {shown(value.half_width, digits)}{tail} (n = {value.n})"


def limits(value: Interval, digits: int = 3, unit: str = "") -> str:
    """Return ``mean unit, 95% interval [low, high], n = …``, as a sentence needs it."""
    tail = f" {unit}" if unit else ""
    if value.low is None or value.high is None:
        return f"{number(value.mean, digits)}{tail}, n = {value.n}, too few for an interval"
    low, high = number(value.low, digits), number(value.high, digits)
    return f"{number(value.mean, digits)}{tail}, 95% interval [{low}, {high}], n = {value.n}"


def decimals(value: float) -> int:
    """Return how many decimals a measured value is shown with: 4 below 10, 1 below 1000, else none."""
    return 4 if abs(value) < 10 else 1 if abs(value) < 1000 else 0


def quantity(value: Interval, unit: str = "") -> str:
    """Return a metric's interval with decimals by its size; dimensionless units are left out."""
    return interval(value, decimals(value.mean), "" if unit in ("1", "relative") else unit)


def log2_rate(x: float) -> str:
    """Return a learning rate given by its log2, as ``2^−7.5``."""
    return f"2^{number(x, 2).rstrip('0').rstrip('.')}"


def power_of_two(x: float) -> str:
    """Return ``2`` with the exponent ``x`` set above the line: ``2⁻⁷`` or ``2⁻⁷·⁵``."""
    text = f"{x:.2f}".rstrip("0").rstrip(".")
    return "2" + text.translate(str.maketrans("-.0123456789", "⁻·⁰¹²³⁴⁵⁶⁷⁸⁹"))


METRICS = {
    "val_loss": "validation loss",
    "test_loss": "test loss",
    "bits_per_byte": "bits per byte",
    "whitespace_word_ppl": "word perplexity",
    "wt103_nounk_ppl": "WikiText-103 test",
    "tokens_per_s": "tokens/s",
    "peak_gib": "peak memory",
    "state_bytes": "state",
}


def metric_name(metric: str) -> str:
    """Return a metric's name in words."""
    return METRICS.get(metric, metric.replace("_", " "))


def at_a_time(runs: Sequence[int]) -> str:
    """Return ``one run at a time``, ``2 runs at a time`` or, where runs differ in it, ``1 or 2 runs at a time``."""
    return "one run at a time" if list(runs) == [1] else f"{listed(list(map(str, runs)), 'or')} runs at a time"


def listed(items: Sequence[str], last: str = "and") -> str:
    """Return ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"
