"""A paired difference of two models on a text, with the error of having read these documents and not others.

The text is sampled by document: documents are drawn with replacement, and the ratio of sums is computed again. Seeds
are not drawn: every draw uses all of them, so this interval holds no seed variance, and a t interval over seeds at the
text as it is holds no sampling error of the text.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from gdnbench.report.statistics.intervals import Interval, t_interval

RESAMPLES = 20_000
MIN_DOCUMENTS = 5  # fewer have no more than 35 different draws
LEVEL = 0.95


def document_interval(differences: Mapping[int, Sequence[float]], sizes: Sequence[float]) -> Interval | None:
    """Return the ratio ``sum of differences / sum of sizes`` with its bootstrap interval over documents.

    The percentiles are those of Hesterberg's expanded interval ("What Teachers Should Know About the Bootstrap", 2015):
    a plain percentile interval of few documents is too narrow. No limits below 5 documents; None without any.

    Args:
        differences: seed -> difference by document; the mean over seeds is resampled.
        sizes: tokens or bytes by document.
    """
    n = len(sizes)
    if not differences or not n or not sum(sizes):
        return None
    values, weights = np.mean(list(differences.values()), axis=0), np.asarray(sizes, dtype=float)
    mean = float(values.sum() / weights.sum())
    if n < MIN_DOCUMENTS:
        return Interval(mean=mean, low=None, high=None, n=n)
    ratios = _resampled(values, weights)
    tail = (1 - LEVEL) / 2
    reach = float(stats.t.ppf(1 - tail, n - 1)) * math.sqrt(n / (n - 1))
    low, high = np.quantile(ratios, [stats.norm.cdf(-reach), stats.norm.cdf(reach)])
    return Interval(mean=mean, low=float(low), high=float(high), n=n)


def seed_interval(differences: Mapping[int, Sequence[float]], sizes: Sequence[float]) -> Interval | None:
    """Return the same ratio with its Student t interval over seeds, the documents as they are."""
    total = sum(sizes)
    return t_interval(math.fsum(values) / total for values in differences.values()) if total else None


def _resampled(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the ratio of sums in each resample; the draws depend on the number of documents alone."""
    n = len(values)
    generator = np.random.Generator(np.random.PCG64(n))
    ratios = np.empty(RESAMPLES)
    step = max(1, (1 << 22) // n)  # 32 MiB of indices at a time
    for start in range(0, RESAMPLES, step):
        drawn = generator.integers(0, n, (min(step, RESAMPLES - start), n))
        ratios[start : start + step] = values[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    return ratios
