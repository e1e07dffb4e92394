"""What an arm's optimum does over the length of training, in sentences that the numbers choose."""

from gdnbench.report import numbers
from gdnbench.report.horizon import Horizons
from gdnbench.report.statistics import position
from gdnbench.report.verdicts.transfer import DRIFT_BOUND, DRIFT_UNIT

LENGTH_UNIT = "octaves per doubling of the length"


def horizon_sentences(arm: Horizons) -> list[str]:
    """Return how an arm's optimum moves with the length, and whether the verdict on its drift is the same at all."""
    sentences = []
    for width, slope in arm.slopes.items():
        if slope is None or slope.low is None or slope.high is None:
            sentences.append(f"{arm.runs.arm}, width {width}: movement with the length pending, too few seeds.")
            continue
        word = "falls" if slope.high < 0 else "rises" if slope.low > 0 else "is not shown to move"
        sentences.append(
            f"{arm.runs.arm}, width {width}: the best rate {word} with the length, "
            f"{numbers.limits(slope, 3, LENGTH_UNIT)}."
        )
    return [*sentences, *length_verdict(arm)]


def length_verdict(arm: Horizons) -> list[str]:
    """Return whether the verdict on an arm's drift over width is the same at all lengths that have one."""
    known = {t: f.drift for t, f in arm.by_tokens.items() if f.drift is not None and f.drift.low is not None}
    if len(known) < 2:
        return []
    places = {position(drift, -DRIFT_BOUND, DRIFT_BOUND) for drift in known.values()}
    shown = ", ".join(f"{numbers.number(d.mean, 2)} at {numbers.count(t)} tokens" for t, d in known.items())
    same = "the same at every length" if len(places) == 1 else "not the same at every length"
    return [f"{arm.runs.arm}: the verdict on its drift over width is {same} ({shown}; {DRIFT_UNIT})."]
