"""Timing two trees in turn, and whether one is slower than the other beyond doubt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from gdnbench.errors import GdnbenchError
from gdnbench.measure.kernels.ratios import Ratio, paired_ratio, spread
from gdnbench.measure.regression.aligned import aligned

ROUNDS = 15
BLOCK_MS = 20.0  # of samples, between which and the other tree's the GPU changes its process


class CannotTime(GdnbenchError):
    """A tree that cannot be timed, or cannot serve a case; the message names the tree and gives its reason."""


Verdict = Literal["slower", "faster", "same", "undecided", "not measured"]


class Timed(Protocol):
    """What is timed (`cases.Case`, `model_cases.ModelCase`).

    Attributes:
        HEAD: headings of its cells.
        UNIT: of what it shows.
    """

    HEAD: ClassVar[tuple[str, ...]]
    UNIT: ClassVar[str]

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the case as the first cells of a line."""
        ...

    @property
    def message(self) -> Any:
        """Return what a worker is asked."""
        ...

    def shown(self, ms: float) -> str:
        """Return a time, or what follows from it, as it is printed."""
        ...


class Timer(Protocol):
    """What times one tree (`workers.Worker`)."""

    def prepare(self, case: Timed) -> str:
        """Get ready for a case; return the way in which it is timed."""
        ...

    def time(self, block_ms: float) -> float:
        """Return the median milliseconds of the samples of a block."""
        ...


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A case in both trees: median milliseconds, and the ratio of this tree's time to the baseline's."""

    case: Timed
    verdict: Verdict
    baseline_ms: float = 0.0
    this_ms: float = 0.0
    ratio: Ratio | None = None
    reason: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return the comparison as a line of a table."""
        if self.ratio is None:
            return *self.case.cells, "-", "-", "-", self.verdict
        ratio = f"{self.ratio.value:.3f} [{self.ratio.low:.3f}, {self.ratio.high:.3f}]"
        return *self.case.cells, *map(self.case.shown, (self.baseline_ms, self.this_ms)), ratio, self.verdict


def compare(
    baseline: Timer,
    this: Timer,
    cases: Sequence[Timed],
    threshold: float,
    *,
    rounds: int = ROUNDS,
    progress: Callable[[str], object] = lambda line: None,
) -> list[Comparison]:
    """Time each case in both trees and judge the ratio by ``threshold`` (0.03: three percent)."""
    found = []
    for case in cases:
        progress(" ".join(case.cells))
        found.append(_compare(baseline, this, case, threshold, rounds))
    return found


def _compare(baseline: Timer, this: Timer, case: Timed, threshold: float, rounds: int) -> Comparison:
    try:
        ways = [timer.prepare(case) for timer in (baseline, this)]
        if ways[0] != ways[1]:
            raise CannotTime(f"the trees can only be timed in different ways: {ways[0]}; {ways[1]}")
        pairs = [_round(baseline, this) for _ in range(rounds)]
    except CannotTime as error:
        return Comparison(case=case, verdict="not measured", reason=str(error))
    before, now = zip(*pairs, strict=True)
    ratio = paired_ratio(before, now)
    return Comparison(
        case=case,
        verdict=judge(ratio, threshold),
        baseline_ms=spread(before).median,
        this_ms=spread(now).median,
        ratio=ratio,
    )


def _round(baseline: Timer, this: Timer) -> tuple[float, float]:
    """Time baseline, this, this, baseline: what drifts evenly (clocks, temperature) falls on both alike."""
    first, second, third, fourth = (timer.time(BLOCK_MS) for timer in (baseline, this, this, baseline))
    return (first + fourth) / 2, (second + third) / 2


def judge(ratio: Ratio, threshold: float) -> Verdict:
    """Return where the ratio's whole interval lies: beyond the threshold to one side, within it, or across."""
    if ratio.low > 1 + threshold:
        return "slower"
    if ratio.high < 1 / (1 + threshold):
        return "faster"
    return "same" if 1 / (1 + threshold) <= ratio.low and ratio.high <= 1 + threshold else "undecided"


def lines(found: Sequence[Comparison]) -> list[str]:
    """Return the table of comparisons, and below it the reasons of those that could not be made, each once."""
    if not found:
        return []
    case = found[0].case
    head = (*case.HEAD, f"baseline {case.UNIT}", f"this {case.UNIT}", "ratio of times [95% interval]", "verdict")
    reasons = dict.fromkeys(one.reason for one in found if one.reason)
    return [*aligned([head, *(one.cells() for one in found)]), *(f"not measured: {reason}" for reason in reasons)]
