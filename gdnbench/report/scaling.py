"""How an arm's optimum, curvature and loss go with width (`gdnbench.report.statistics.scaling`), from its sweep."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from gdnbench.report.statistics import Interval, fit_optimum, log_width_slopes, paired_difference, t_interval
from gdnbench.report.statistics.scaling import extrapolation_errors, line_residual, loss_limits
from gdnbench.report.transfer import Transfer


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """The metrics of one arm.

    Attributes:
        fitted: its sweep.
        residual: E, octaves; None with fewer than 3 widths.
        extrapolation: optimum at the largest width minus what the smaller ones foretell, octaves, over seeds.
        kappa: power of the width in the curvature, over seeds.
        limits: seed -> L(inf), nats.
        excess: R(inf) over seeds: L(inf) minus that of the arm of the same experiment and architecture whose is lowest.
    """

    fitted: Transfer
    residual: float | None
    extrapolation: Interval | None
    kappa: Interval | None
    limits: dict[int, float] = field(default_factory=dict)
    excess: Interval | None = None


def scalings(transfers: Sequence[Transfer]) -> list[Scaling]:
    """Return the metrics of the arms of one experiment and architecture."""
    limits = [loss_limits(_losses(fitted)) for fitted in transfers]
    means = [sum(found.values()) / len(found) if found else math.inf for found in limits]
    lowest = limits[means.index(min(means))] if means else {}
    return [_scaling(fitted, own, lowest) for fitted, own in zip(transfers, limits, strict=True)]


def _scaling(fitted: Transfer, own: dict[int, float], lowest: dict[int, float]) -> Scaling:
    centres = {width: curve.interval.mean for width, curve in fitted.curves.items() if curve.interval is not None}
    return Scaling(
        fitted=fitted,
        residual=line_residual(centres),
        extrapolation=t_interval(extrapolation_errors(_optima(fitted)).values()),
        kappa=t_interval(log_width_slopes(_log_curvatures(fitted)).values()),
        limits=own,
        excess=paired_difference(own, lowest),
    )


def _optima(fitted: Transfer) -> dict[int, dict[int, float]]:
    return {w: {s: o.x for s, o in c.by_seed.items() if o.x is not None} for w, c in fitted.curves.items()}


def _losses(fitted: Transfer) -> dict[int, dict[int, float]]:
    """Return width -> seed -> loss at the seed's optimum."""
    return {
        width: {s: o.loss for s, o in curve.by_seed.items() if o.x is not None and o.loss is not None}
        for width, curve in fitted.curves.items()
    }


def _log_curvatures(fitted: Transfer) -> dict[int, dict[int, float]]:
    """Return width -> seed -> log2 of the curvature by the seed's own runs, where they have a minimum."""
    found: dict[int, dict[int, float]] = {}
    for width, curve in fitted.curves.items():
        own = {seed: fit_optimum(losses).curvature for seed, losses in curve.seeds.items()}
        found[width] = {seed: math.log2(value) for seed, value in own.items() if value is not None}
    return found
