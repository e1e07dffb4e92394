"""Statistics of repeated timings: median and spread, and the ratio of two kernels that were timed in turn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median and 10th and 90th percentile of samples, in their unit."""

    median: float
    p10: float
    p90: float


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A median of paired ratios with its 95% bootstrap interval."""

    value: float
    low: float
    high: float


def spread(samples: Sequence[float]) -> Spread:
    """Return median and percentiles of at least one sample."""
    p10, median, p90 = np.percentile(np.asarray(samples, dtype=float), (10, 50, 90))
    return Spread(median=float(median), p10=float(p10), p90=float(p90))


def paired_ratio(times: Sequence[float], others: Sequence[float], *, seed: int = 0) -> Ratio:
    """Return how many times longer ``others`` took than ``times``, pair by pair: above 1, the first is faster.

    Args:
        times: one time a round.
        others: the other kernel's time in the same round.
        seed: seeds the resampling of rounds.
    """
    if not times or len(times) != len(others):
        raise ValueError(f"times and others: expected one pair a round, got {len(times)} and {len(others)}")
    ratios = np.asarray(others, dtype=float) / np.asarray(times, dtype=float)
    rounds = np.random.default_rng(seed).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    medians = np.median(ratios[rounds], axis=1)
    low, high = np.quantile(medians, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Ratio(value=float(np.median(ratios)), low=float(low), high=float(high))
