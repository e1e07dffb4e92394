"""The best learning rate of a loss curve, as the minimum of a quadratic in its log2 around the best grid point."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

SeedCurves = Mapping[int, Mapping[float, float]]
"""seed -> log2 learning rate -> loss in nats, of runs that finished; seeds need not share their rates."""

Flag = Literal["censored", "edge", "few points", "no runs"]

NEIGHBOURS = 2
TOLERANCE = 0.01  # nats
MIN_POINTS = 3


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """An optimum in log2 learning rate.

    Attributes:
        x: the fitted optimum; None where it is censored (the grid does not show it) or there are too few points.
        best: the grid point with the lowest loss.
        loss: loss at the fitted optimum, or at the best grid point where there is none, in nats.
        tolerance: where the fitted loss is within 0.01 nat of its minimum, cut to the grid; None without a fit.
        curvature: nats that one octave from the optimum costs, by the fit; None without one.
        flags: ``censored``, ``edge`` (best grid point first or last, and none that diverged beyond it), ``few points``,
            ``no runs``.
    """

    x: float | None = None
    best: float | None = None
    loss: float | None = None
    tolerance: tuple[float, float] | None = None
    curvature: float | None = None
    flags: tuple[Flag, ...] = ()


def mean_curve(curves: SeedCurves) -> dict[float, float]:
    """Return the mean loss by rate, corrected for seeds that ran only some of the rates.

    Seed 0 runs the whole grid and the others only around the best rate, so a plain mean would mix the curve's shape
    with the seeds' levels. The additive model ``loss = shape(rate) + level(seed)`` is fitted by least squares, with
    levels that sum to zero. With all seeds at all rates it is the plain mean.
    """
    seeds = [seed for seed in sorted(curves) if curves[seed]]
    rates = sorted({rate for seed in seeds for rate in curves[seed]})
    rows, losses = [], []
    for seed in seeds:
        for rate, loss in curves[seed].items():
            row = np.zeros(len(rates) + len(seeds))
            row[rates.index(rate)] = row[len(rates) + seeds.index(seed)] = 1.0
            rows.append(row)
            losses.append(loss)
    if not rows:
        return {}
    rows.append(np.concatenate([np.zeros(len(rates)), np.ones(len(seeds))]))
    solution = np.linalg.lstsq(np.array(rows), np.array([*losses, 0.0]), rcond=None)[0]
    return dict(zip(rates, (float(value) for value in solution[: len(rates)])))


def fit_optimum(curve: Mapping[float, float], diverged: Collection[float] = ()) -> Optimum:
    """Fit a quadratic to the best grid point and up to 2 neighbours on either side.

    An optimum that lies outside the grid, or a curve that bends downwards, is censored, never clipped; so is a curve
    whose best grid point is its first or last, for no run shows that it turns there. Rates that ``diverged`` beyond
    that point do show it.
    """
    rates = sorted(curve)
    if not rates:
        return Optimum(flags=("no runs",))
    best = min(rates, key=lambda rate: curve[rate])
    edge: tuple[Flag, ...] = ("edge",) if _open(best, rates, diverged) else ()
    nearby = window(rates, best)
    if len(nearby) < MIN_POINTS:
        return Optimum(best=best, loss=curve[best], flags=(*edge, "few points"))
    if edge:
        return _at_edge(curve)
    a, b, c = np.polyfit(np.array(nearby) - best, [curve[rate] for rate in nearby], deg=2)
    return _from_quadratic(float(a), float(b), float(c), best, rates, curve[best])


def fit_seed_optima(curves: SeedCurves, diverged: Collection[float] = ()) -> dict[int, Optimum]:
    """Fit every seed's optimum with one curvature for all seeds and a slope and a level of each seed's own.

    The shared curvature lets a seed with only the best rate and its neighbours be fitted: two runs in the window are
    enough for it, if some other seed has the three that a curvature takes. The window is that of the mean curve, and
    the grid is that of all seeds together; where its best point is its first or last, all seeds are censored.
    """
    mean = mean_curve(curves)
    rates = sorted(mean)
    if not rates:
        return {}
    best = min(rates, key=lambda rate: mean[rate])
    near = set(window(rates, best))
    used = {seed: {x: y for x, y in curve.items() if x in near} for seed, curve in sorted(curves.items())}
    enough = [seed for seed, curve in used.items() if len(curve) >= MIN_POINTS - 1]
    optima = {seed: Optimum(flags=("few points",)) for seed in used if seed not in enough}
    if any(len(curve) >= MIN_POINTS for curve in used.values()):
        if _open(best, rates, diverged):
            return optima | {seed: _at_edge(curves[seed]) for seed in enough}
        a, lines = _shared_curvature({seed: used[seed] for seed in enough}, best)
        for seed in enough:
            own = curves[seed]
            own_best = min(own, key=lambda rate: own[rate])
            optima[seed] = _from_quadratic(a, *lines[seed], best, rates, own[own_best], own_best)
        return optima
    return {seed: Optimum(flags=("few points",)) for seed in used}


def window(rates: list[float], best: float) -> list[float]:
    """Return the best rate and up to 2 neighbours on either side, from sorted ``rates``."""
    index = rates.index(best)
    return rates[max(0, index - NEIGHBOURS) : index + NEIGHBOURS + 1]


def _open(best: float, rates: list[float], diverged: Collection[float]) -> bool:
    """Say whether the best rate is the first or last of ``rates``, and nothing diverged beyond it."""
    below = best == rates[0] and not any(rate < best for rate in diverged)
    return below or (best == rates[-1] and not any(rate > best for rate in diverged))


def _at_edge(curve: Mapping[float, float]) -> Optimum:
    best = min(curve, key=lambda rate: curve[rate])
    return Optimum(best=best, loss=curve[best], flags=("edge", "censored"))


def _shared_curvature(curves: SeedCurves, centre: float) -> tuple[float, dict[int, tuple[float, float]]]:
    """Return the curvature of all seeds and each seed's slope and level at ``centre``."""
    seeds = list(curves)
    rows, losses = [], []
    for index, seed in enumerate(seeds):
        for rate, loss in curves[seed].items():
            row = np.zeros(1 + 2 * len(seeds))
            row[0], row[1 + 2 * index], row[2 + 2 * index] = (rate - centre) ** 2, rate - centre, 1.0
            rows.append(row)
            losses.append(loss)
    solution = np.linalg.lstsq(np.array(rows), np.array(losses), rcond=None)[0]
    lines = {s: (float(solution[1 + 2 * i]), float(solution[2 + 2 * i])) for i, s in enumerate(seeds)}
    return float(solution[0]), lines


def _from_quadratic(
    a: float,
    b: float,
    c: float,
    centre: float,
    rates: list[float],
    lowest: float,
    best: float | None = None,
) -> Optimum:
    """Return the minimum of ``a (x - centre)^2 + b (x - centre) + c``, censored where it has none in the grid."""
    best = centre if best is None else best
    x = centre - b / (2 * a) if a > 0 else float("inf")
    if not rates[0] <= x <= rates[-1]:
        return Optimum(best=best, loss=lowest, flags=("censored",))
    reach = (TOLERANCE / a) ** 0.5
    tolerance = (max(rates[0], x - reach), min(rates[-1], x + reach))
    return Optimum(x=x, best=best, loss=c - b * b / (4 * a), tolerance=tolerance, curvature=a)
