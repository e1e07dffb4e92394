"""Transfer regret: what is lost at the largest width by keeping the base width's best learning rate.

Choosing a rate and reading its loss from the same seeds is biased, so it is cross-fitted: the rates come from the
other seeds, the losses from the seed held out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gdnbench.report.statistics.intervals import Interval, t_interval
from gdnbench.report.statistics.optimum import SeedCurves, fit_optimum, mean_curve


@dataclass(frozen=True, kw_only=True)
class SeedRegret:
    """Regret of one held-out seed, in nats.

    Attributes:
        nats: loss at the base width's rate minus loss at the largest width's own rate.
        at_least: the seed has no run as far out as the base width's rate, so its loss there is taken at its nearest
            run: for a curve with one minimum the true regret is at least this.
        diverged: the seed's run nearest to the base width's rate diverged: the regret is no number.
    """

    nats: float
    at_least: bool = False
    diverged: bool = False


def transfer_regrets(
    base: SeedCurves, largest: SeedCurves, diverged: Mapping[int, set[float]] | None = None
) -> dict[int, SeedRegret]:
    """Return seed -> its regret at the largest width, for all seeds that have runs there.

    Args:
        base: loss curves by seed at the base width.
        largest: loss curves by seed at the largest width.
        diverged: seed -> log2 rates at the largest width whose runs diverged.
    """
    regrets = {}
    for seed, curve in sorted(largest.items()):
        others = sorted(set(base) - {seed}), sorted(set(largest) - {seed})
        transferred = chosen_rate({s: base[s] for s in others[0]})
        own = chosen_rate({s: largest[s] for s in others[1]})
        if transferred is None or own is None or not curve:
            continue
        regrets[seed] = _regret(curve, transferred, own, (diverged or {}).get(seed, set()))
    return regrets


def chosen_rate(curves: SeedCurves) -> float | None:
    """Return the rate that these seeds would choose: the fitted optimum, else the best grid point."""
    optimum = fit_optimum(mean_curve(curves))
    return optimum.best if optimum.x is None else optimum.x


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Interval | None:
    """Return the interval of ``first - second`` over the seeds that both have (equal seeds see equal batches)."""
    return t_interval([first[seed] - second[seed] for seed in sorted(set(first) & set(second))])


def interpolate(curve: Mapping[float, float], x: float) -> float:
    """Return the loss at ``x`` from the quadratic through the three nearest runs, or the line through two.

    ``x`` outside the curve's rates is taken at the nearest of them.
    """
    rates = np.array(sorted(curve))
    x = float(np.clip(x, rates[0], rates[-1]))
    nearest = sorted(rates, key=lambda rate: abs(rate - x))[:3]
    degree = len(nearest) - 1
    weights = np.polyfit(np.array(nearest) - x, [curve[rate] for rate in nearest], deg=degree)
    return float(weights[-1])


def _regret(curve: Mapping[float, float], transferred: float, own: float, diverged: set[float]) -> SeedRegret:
    nats = interpolate(curve, transferred) - interpolate(curve, own)
    known = set(curve) | diverged
    if diverged and min(known, key=lambda rate: abs(rate - transferred)) in diverged:
        return SeedRegret(nats=nats, at_least=True, diverged=True)
    beyond = not min(curve) - 1e-9 <= transferred <= max(curve) + 1e-9
    return SeedRegret(nats=nats, at_least=beyond)
