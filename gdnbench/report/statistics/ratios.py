"""The ratio of two means of repeated timings that were not taken in pairs."""

from collections.abc import Sequence

import numpy as np

from gdnbench.report.statistics.intervals import Interval

RESAMPLES = 2000


def ratio_of_means(above: Sequence[float], below: Sequence[float], level: float = 0.95) -> Interval | None:
    """Return the ratio of two means with its bootstrap interval, each side resampled by itself; None without values.

    Equal values give equal intervals.
    """
    sides = [np.asarray(values, dtype=float) for values in (above, below)]
    if not all(len(values) for values in sides):
        return None
    rng = np.random.default_rng(0)
    means = [values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1) for values in sides]
    low, high = np.quantile(means[0] / means[1], ((1 - level) / 2, (1 + level) / 2))
    ratio = float(sides[0].mean() / sides[1].mean())
    return Interval(mean=ratio, low=float(low), high=float(high), n=min(map(len, sides)))
