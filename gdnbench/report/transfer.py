"""Learning-rate transfer of one arm: loss curves, fitted optima, drift over width, transfer regret."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gdnbench.report.statistics import (
    Interval,
    Optimum,
    SeedCurves,
    SeedRegret,
    fit_optimum,
    fit_seed_optima,
    log_width_slopes,
    mean_curve,
    t_interval,
    transfer_regrets,
)
from gdnbench.report.study import ArmRuns, log2_lr, seed_of

METRIC = "val_loss"


@dataclass(frozen=True, kw_only=True)
class WidthCurve:
    """Loss over learning rate at one width.

    Attributes:
        width: model width.
        seeds: seed -> log2 rate -> validation loss, of finished runs.
        diverged: seed -> log2 rates whose runs diverged.
        mean: mean curve over seeds (`gdnbench.report.statistics.mean_curve`).
        optimum: the optimum of the mean curve.
        by_seed: each seed's optimum, with one curvature for all.
        interval: interval of the seeds' optima, in log2 learning rate; None where all are censored.
    """

    width: int
    seeds: SeedCurves
    diverged: Mapping[int, set[float]]
    mean: Mapping[float, float]
    optimum: Optimum
    by_seed: Mapping[int, Optimum]
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """How an arm's best learning rate behaves over width.

    Attributes:
        runs: the arm's records.
        curves: width -> curve, in the order of widths.
        slopes: seed -> drift in octaves per doubling of width.
        drift: interval of the slopes.
        regrets: seed -> cross-fitted regret at the largest width.
        regret: interval of the regrets, in nats.
        flags: what a reader must know of the fits.
    """

    runs: ArmRuns
    curves: Mapping[int, WidthCurve]
    slopes: Mapping[int, float] = field(default_factory=dict)
    drift: Interval | None = None
    regrets: Mapping[int, SeedRegret] = field(default_factory=dict)
    regret: Interval | None = None
    flags: tuple[str, ...] = ()

    @property
    def at_least(self) -> bool:
        """Whether some seed's regret is a lower limit only."""
        return any(regret.at_least for regret in self.regrets.values())

    @property
    def base_width(self) -> int | None:
        """The smallest width that has a curve."""
        return min(self.curves, default=None)

    @property
    def largest_width(self) -> int | None:
        """The largest width that has a curve."""
        return max(self.curves, default=None)


def analyse(runs: ArmRuns) -> Transfer:
    """Fit an arm's sweep."""
    curves = {width: _curve(runs, width) for width in runs.widths()}
    optima = {w: {s: o.x for s, o in c.by_seed.items() if o.x is not None} for w, c in curves.items()}
    slopes = log_width_slopes(optima) if len(curves) > 1 else {}
    regrets = _regrets(curves)
    return Transfer(
        runs=runs,
        curves=curves,
        slopes=slopes,
        drift=t_interval(slopes.values()),
        regrets=regrets,
        regret=t_interval(regret.nats for regret in regrets.values()),
        flags=tuple(_flags(curves, slopes, regrets)),
    )


def _curve(runs: ArmRuns, width: int) -> WidthCurve:
    seeds: dict[int, dict[float, float]] = {}
    diverged: dict[int, set[float]] = {}
    for record in runs.at(width):
        loss = record.metric(METRIC)
        if record.outcome == "diverged" or loss is None or not math.isfinite(loss):
            diverged.setdefault(seed_of(record), set()).add(log2_lr(record))
        else:
            seeds.setdefault(seed_of(record), {})[log2_lr(record)] = loss
    mean = mean_curve(seeds)
    gone = set().union(*diverged.values())
    by_seed = fit_seed_optima(seeds, gone)
    return WidthCurve(
        width=width,
        seeds=seeds,
        diverged=diverged,
        mean=mean,
        optimum=fit_optimum(mean, gone),
        by_seed=by_seed,
        interval=t_interval(optimum.x for optimum in by_seed.values() if optimum.x is not None),
    )


def _regrets(curves: Mapping[int, WidthCurve]) -> dict[int, SeedRegret]:
    """Return the regrets: none while the base width's best rate is open, lower limits where the largest width's is."""
    if len(curves) < 2 or "edge" in curves[min(curves)].optimum.flags:
        return {}
    base, largest = curves[min(curves)], curves[max(curves)]
    regrets = transfer_regrets(base.seeds, largest.seeds, largest.diverged)
    if "edge" in largest.optimum.flags:
        return {seed: replace(regret, at_least=True) for seed, regret in regrets.items()}
    return regrets


def _flags(
    curves: Mapping[int, WidthCurve], slopes: Mapping[int, float], regrets: Mapping[int, SeedRegret]
) -> list[str]:
    """Return what a reader must know: edges, censored seeds, diverged runs, seeds without a slope, limits."""
    found: dict[str, list[int]] = {}
    for width, curve in curves.items():
        if "edge" in curve.optimum.flags:
            found.setdefault("the best rate is at the edge of those that have run, so no optimum is fitted", []).append(
                width
            )
        censored = sum(optimum.flags == ("censored",) for optimum in curve.by_seed.values())
        if censored:
            text = f"{censored} of {len(curve.by_seed)} optima lie outside the grid (censored)"
            found.setdefault(text, []).append(width)
        diverged = sum(len(rates) for rates in curve.diverged.values())
        if diverged:
            found.setdefault(f"{diverged} diverged", []).append(width)
    flags = [f"width {', '.join(map(str, widths))}: {text}" for text, widths in found.items()]
    seeds = {seed for curve in curves.values() for seed in curve.seeds}
    if len(curves) > 1 and (left_out := sorted(seeds - set(slopes))):
        flags.append(f"no drift from seed {', '.join(map(str, left_out))}: too few fitted optima")
    if limits := sum(regret.at_least for regret in regrets.values()):
        flags.append(f"regret of {limits} of {len(regrets)} seeds is a lower limit")
    return flags
