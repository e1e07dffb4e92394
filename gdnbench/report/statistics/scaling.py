"""How optimum, curvature and loss go with width: how well small widths foretell a large one, and what is left at none.

After arXiv 2605.21486 (metrics E, kappa, R(inf)); the formulas are ours, with the width as the size n:
``E`` is the root mean square residual of the optimum, in octaves, about its line over log2 n; ``kappa`` is the power of
n by which the curvature of loss over log2 rate grows (a rate that is off by a fixed number of octaves costs that much
more at a larger width); ``R(inf)`` is how far the limit of the loss, by ``L(n) = L(inf) + A n^-gamma``, lies above that
of the best parametrization.
"""

from collections.abc import Mapping

import numpy as np
from scipy import optimize

MIN_LIMIT_WIDTHS = 4  # a power law with a limit has three parameters
POWERS = (0.05, 4.0)  # of the width, between which the loss' power is looked for

ByWidth = Mapping[int, Mapping[int, float]]
"""width -> seed -> value."""


def line_residual(values: Mapping[int, float]) -> float | None:
    """Return the root mean square residual about the line over log2 width; None with fewer than 3 widths."""
    if len(values) < 3:
        return None
    x, y = np.log2(sorted(values)), np.array([values[width] for width in sorted(values)])
    residuals = y - np.polyval(np.polyfit(x, y, deg=1), x)
    return float(np.sqrt(np.mean(residuals**2)))


def extrapolation_errors(values: ByWidth) -> dict[int, float]:
    """Return seed -> value at the largest width minus what the line through the smaller ones (2 or more) foretells."""
    errors = {}
    for seed, curve in _by_seed(values).items():
        widths = sorted(curve)
        if len(widths) >= 3 and widths[-1] == max(values):
            x = np.log2(widths)
            line = np.polyfit(x[:-1], [curve[width] for width in widths[:-1]], deg=1)
            errors[seed] = float(curve[widths[-1]] - np.polyval(line, x[-1]))
    return errors


def loss_limits(values: ByWidth) -> dict[int, float]:
    """Return seed -> L(inf) of its losses over width, where 4 widths or more determine one."""
    limits = {seed: loss_limit(curve) for seed, curve in _by_seed(values).items()}
    return {seed: limit for seed, limit in limits.items() if limit is not None}


def loss_limit(curve: Mapping[int, float]) -> float | None:
    """Return ``L(inf)`` of the least-squares power law through losses by width; None where they determine none.

    For a given power the law is linear, so one number is searched; a best power at the end of its range is no answer.
    """
    if len(curve) < MIN_LIMIT_WIDTHS:
        return None
    widths = np.array(sorted(curve), dtype=float)
    losses = np.array([curve[width] for width in sorted(curve)])

    def fit(power: float) -> tuple[float, np.ndarray]:
        terms = np.stack([np.ones(len(widths)), (widths / widths[0]) ** -power], axis=1)
        solution = np.linalg.lstsq(terms, losses, rcond=None)[0]
        return float(np.sum((terms @ solution - losses) ** 2)), solution

    grid = np.geomspace(*POWERS, 60)
    best = int(np.argmin([fit(power)[0] for power in grid]))
    if best in (0, len(grid) - 1):
        return None
    found = optimize.minimize_scalar(
        lambda power: fit(power)[0], bounds=(grid[best - 1], grid[best + 1]), method="bounded"
    )
    limit, factor = fit(float(found.x))[1]
    return float(limit) if factor > 0 else None


def _by_seed(values: ByWidth) -> dict[int, dict[int, float]]:
    seeds = sorted({seed for by_seed in values.values() for seed in by_seed})
    return {seed: {width: by_seed[seed] for width, by_seed in values.items() if seed in by_seed} for seed in seeds}
