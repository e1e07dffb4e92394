"""Timing two trees in turn, and whether one is slower than the other beyond doubt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gdnbench.measure.kernels.ratios import Ratio, paired_ratio, spread
from gdnbench.measure.regression.aligned import aligned
from gdnbench.measure.regression.cases import HEAD, Case
from gdnbench.measure.regression.workers import CannotTime

ROUNDS = 15
BLOCK_MS = 20.0  # of samples, between which and the other tree's the GPU changes its process

Verdict = Literal["slower", "faster", "same", "undecided", "not measured"]


class Timer(Protocol):
    """What times one tree (`workers.Worker`)."""

    def prepare(self, case: Case) -> str:
        """Get ready for a case; return the way in which it is timed."""
        ...

    def time(self, block_ms: float) -> float:
        """Return the median milliseconds of the samples of a block."""
        ...


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A case in both trees: median milliseconds, and the ratio of this tree's time to the baseline's."""

    case: Case
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
        return *self.case.cells, f"{self.baseline_ms:.4f}", f"{self.this_ms:.4f}", ratio, self.verdict


def compare(
    baseline: Timer,
    this: Timer,
    cases: Sequence[Case],
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


def _compare(baseline: Timer, this: Timer, case: Case, threshold: float, rounds: int) -> Comparison:
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
    head = (*HEAD, "baseline ms", "this ms", "ratio [95% interval]", "verdict")
    reasons = dict.fromkeys(one.reason for one in found if one.reason)
    return [*aligned([head, *(one.cells() for one in found)]), *(f"not measured: {reason}" for reason in reasons)]
