"""Student t intervals over seeds, and where an interval lies with respect to bounds."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

MIN_SEEDS = 3  # with two seeds the half-width is 9 standard deviations: no interval is stated

Position = Literal["inside", "below", "above", "undecided", "pending"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over ``n`` seeds with its interval; ``low`` and ``high`` are None where n is below 3."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half_width(self) -> float | None:
        """Half of the interval's width, in the unit of the mean."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def t_interval(values: Iterable[float], level: float = 0.95) -> Interval | None:
    """Return the mean and its Student t interval; None without values, no limits with fewer than 3.

    Args:
        values: one value a seed; those that are not finite are left out.
        level: coverage.
    """
    finite = np.array([value for value in values if math.isfinite(value)], dtype=float)
    n = len(finite)
    if n == 0:
        return None
    mean = float(finite.mean())
    if n < MIN_SEEDS:
        return Interval(mean=mean, low=None, high=None, n=n)
    reach = float(stats.t.ppf((1 + level) / 2, n - 1) * finite.std(ddof=1) / math.sqrt(n))
    return Interval(mean=mean, low=mean - reach, high=mean + reach, n=n)


def position(interval: Interval | None, low: float = -math.inf, high: float = math.inf) -> Position:
    """Return where an interval lies: wholly inside the bounds, wholly to one side of them, or across one.

    An interval without limits, or none at all, is ``pending``.
    """
    if interval is None or interval.low is None or interval.high is None:
        return "pending"
    if low <= interval.low and interval.high <= high:
        return "inside"
    if interval.high < low:
        return "below"
    if interval.low > high:
        return "above"
    return "undecided"
