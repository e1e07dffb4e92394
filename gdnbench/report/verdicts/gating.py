"""Verdict on what the gating normalization costs, from kernel timings that lie in another set."""

import math

from gdnbench.claims import ClaimCard
from gdnbench.report.kernels import OURS, Timings
from gdnbench.report.numbers import listed, number
from gdnbench.report.statistics import Interval, position, t_interval
from gdnbench.report.study import Study
from gdnbench.report.verdicts.verdict import Behaviour, Part, Verdict, enough, pending, rule

DIRECTION = "forward"
LOW, HIGH = 0.02, 0.04  # what "about 3%" leaves room for


def gating_cost(card: ClaimCard, study: Study) -> Verdict:
    """Judge the added share of a forward call's device time, over shapes: its interval inside ``low`` to ``high``."""
    other = study.beside(card.set)
    low, high = card.bounds.get("low", LOW), card.bounds.get("high", HIGH)
    name = "a forward call of the gated delta rule"
    if other is None:
        return rule(
            card, pending(name, f"cannot be timed here: there is no set {card.set!r} beside this one"), None, []
        )
    pairs = [
        (plain, scaled)
        for plain, scaled in Timings(other.kernels).gating()
        if plain.impl == OURS and plain.any.spec["direction"] == DIRECTION and plain.ms and scaled.ms
    ]
    added = _added([(plain.ms or math.nan, scaled.ms or math.nan) for plain, scaled in pairs])
    if problem := enough(card, added, "shape"):
        return rule(card, pending(name, f"{problem} in the set {card.set}"), None, [])
    assert added is not None
    devices = listed(sorted({str(plain.any.environment.get("device")) for plain, _ in pairs}))
    limits = ""
    if added.low is not None and added.high is not None:
        limits = f", 95% interval [{number(100 * added.low, 2)}, {number(100 * added.high, 2)}]%"
    measured = (
        f"{number(100 * added.mean, 2)}% more device time of the {OURS} kernels{limits}, n = {added.n} shapes on "
        f"{devices} (set {card.set})"
    )
    span = f"{100 * low:g} to {100 * high:g}%"
    texts: dict[str, tuple[Behaviour, str]] = {
        "inside": ("as claimed", f"takes {span} longer with the gating normalization"),
        "below": ("otherwise", f"takes less than {100 * low:g}% longer with it"),
        "above": ("otherwise", f"takes more than {100 * high:g}% longer with it"),
        "undecided": ("undecided", f"takes longer by a share whose interval crosses {span}"),
        "pending": ("pending", "was timed at too few shapes for an interval"),
    }
    behaviour, finding = texts[position(added, low, high)]
    return rule(card, Part(arm=name, behaviour=behaviour, measured=measured, finding=finding), None, [])


def _added(times: list[tuple[float, float]]) -> Interval | None:
    """Return the added share of the time over (without, with) pairs, from the logarithms of their ratios."""
    logs = t_interval(math.log(scaled / plain) for plain, scaled in times)
    if logs is None:
        return None
    low, high = (None if end is None else math.expm1(end) for end in (logs.low, logs.high))
    return Interval(mean=math.expm1(logs.mean), low=low, high=high, n=logs.n)
