"""Slopes over log2 width, one a seed: of an optimum in octaves, or of the log2 of a size."""

from collections.abc import Mapping

import numpy as np

MIN_WIDTHS = 3  # a line through two widths has no residual to show that it is none


def log_width_slopes(values: Mapping[int, Mapping[int, float]], *, min_widths: int = MIN_WIDTHS) -> dict[int, float]:
    """Return seed -> ordinary-least-squares slope of its values over log2 width.

    Args:
        values: width -> seed -> value (octaves, or log2 of a size); seeds may be missing at some widths.
        min_widths: a seed with values at fewer widths is left out (2 is accepted where there are only 2 widths).
    """
    needed = min(min_widths, max(2, len(values)))
    slopes = {}
    for seed in sorted({seed for by_seed in values.values() for seed in by_seed}):
        points = [(np.log2(width), by_seed[seed]) for width, by_seed in sorted(values.items()) if seed in by_seed]
        points = [(x, y) for x, y in points if np.isfinite(y)]
        if len(points) >= needed:
            xs, ys = zip(*points)
            slopes[seed] = float(np.polyfit(xs, ys, deg=1)[0])
    return slopes
