"""Which learning rates and seeds an arm runs at one width: a grid, more where the best is, the other seeds there."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gdnbench.plan.spec import RunSpec

Losses = Mapping[str, float]
"""Validation loss by run id; infinite for a run that diverged; absent for one that is not finished."""

Refine = Literal["neighbours", "half_octaves", "best", "all"]

# Around the best rate, in octaves: what a curvature fitted to all seeds needs of the first, and what a slope of its own
# needs of every other (half octaves would narrow it by a tenth, for two thirds more runs).
HALF_OCTAVES = (-1.0, -0.5, 0.0, 0.5, 1.0)
OCTAVES = (-1.0, 0.0, 1.0)
# How often the window of half octaves may follow a best rate that it has itself uncovered.
MOVES = 2


@dataclass(frozen=True, kw_only=True)
class Point:
    """The runs at one learning rate and seed.

    Attributes:
        measured: the runs whose losses say how good the rate is: one, or one a training length.
        needed: the runs whose checkpoints those begin with.
    """

    measured: tuple[RunSpec, ...]
    needed: tuple[RunSpec, ...] = ()

    @property
    def runs(self) -> tuple[RunSpec, ...]:
        """All of them, in the order in which they can run."""
        return (*self.needed, *self.measured)


class Sweep:
    """The runs of an arm at one width, as far as they follow from the losses so far.

    The first seed runs the grid, which is extended while the best lies at its edge, and then refined; the other seeds
    run around the best only.
    """

    def __init__(
        self,
        point: Callable[[float, int], Point],
        rates: Sequence[float],
        seeds: Sequence[int],
        *,
        refine: Refine,
        extend: int = 0,
        base: "Sweep | None" = None,
    ):
        """Describe the sweep.

        Args:
            point: the runs at a log2 learning rate and seed.
            rates: the grid of log2 learning rates, ascending.
            seeds: the first runs the grid.
            refine: where the other seeds run (`gdnbench.presets.schema.Experiment`).
            extend: how many rates may be added beyond the grid.
            base: the arm's sweep at the base width, whose best rate all seeds run here, too.
        """
        self.point = functools.cache(point)
        self.rates, self.seeds = tuple(rates), tuple(seeds)
        self.refine, self.extend, self.base = refine, extend, base

    def runs(self, losses: Losses) -> tuple[list[RunSpec], int]:
        """Return the runs that are known by these losses, and about how many more will follow from theirs."""
        if self.refine == "all":
            return self._at(self.rates, self.seeds), 0
        rates, best = self._explored(losses)
        first = self._at(rates, self.seeds[:1])
        if not best:
            return first, self._waiting()
        transferred = self.base.best(losses) if self.base else None
        kept = [] if transferred is None else self._at([transferred], self.seeds)
        return [*first, *self._at(self._around(rates, best, OCTAVES), self.seeds[1:]), *kept], 0

    def best(self, losses: Losses) -> float | None:
        """Return the first seed's best rate (at the longest training), or None while that is not known."""
        rates, best = self._explored(losses)
        return rates[best[-1]] if best else None

    def _explored(self, losses: Losses) -> tuple[list[float], list[int]]:
        """Return the first seed's rates, and the index of the best by training length; none while some are missing."""
        rates, extensions, moves = list(self.rates), self.extend, MOVES
        while True:
            found = [[losses.get(run.run_id) for run in self.point(rate, self.seeds[0]).measured] for rate in rates]
            if any(loss is None for row in found for loss in row):
                return rates, []
            best = [min(range(len(rates)), key=lambda i: column[i]) for column in zip(*found, strict=True)]
            beyond = {rate for index in best if (rate := _beyond(rates, index)) is not None}
            if beyond and extensions:
                rates, extensions = sorted({*rates, *beyond}), extensions - 1
                continue
            window = set(self._around(rates, best, HALF_OCTAVES)) - set(rates)
            if not window or moves < 0:
                return rates, best
            rates, extensions, moves = sorted({*rates, *window}), 0, moves - 1

    def _around(self, rates: Sequence[float], best: Iterable[int], octaves: Iterable[float]) -> list[float]:
        """Return the rates around the best, which are ``octaves`` from it where the sweep refines by half octaves."""
        around: set[float] = set()
        for index in best:
            if self.refine == "half_octaves":
                around |= {rates[index] + offset for offset in octaves}
            else:
                reach = 1 if self.refine == "neighbours" else 0
                around |= set(rates[max(0, index - reach) : index + reach + 1])
        return sorted(around)

    def _waiting(self) -> int:
        width = {"best": 1, "half_octaves": len(OCTAVES)}.get(self.refine, min(3, len(self.rates)))
        each = len(self.point(self.rates[0], self.seeds[0]).runs)
        halves = 2 if self.refine == "half_octaves" else 0
        return each * (width * (len(self.seeds) - 1) + halves)

    def _at(self, rates: Iterable[float], seeds: Iterable[int]) -> list[RunSpec]:
        seeds = tuple(seeds)
        return [run for rate in rates for seed in seeds for run in self.point(rate, seed).runs]


def _beyond(rates: Sequence[float], best: int) -> float | None:
    """Return the next learning rate beyond the edge at which the best lies, or None where it lies inside."""
    if len(rates) < 2 or 0 < best < len(rates) - 1:
        return None
    return 2 * rates[0] - rates[1] if best == 0 else 2 * rates[-1] - rates[-2]
