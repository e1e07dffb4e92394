"""A verdict on a claim, and the one rule that makes it from how the arm and its control behaved."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gdnbench.claims import ClaimCard
from gdnbench.report.numbers import plural
from gdnbench.report.statistics import Interval
from gdnbench.report.study import ArmRuns
from gdnbench.report.verdicts.budget import budget, distance
from gdnbench.results import Record

Ruling = Literal["reproduced", "not reproduced", "partly", "not testable here", "pending", "undecided"]
Behaviour = Literal["as claimed", "otherwise", "undecided", "pending"]

NO_CARD = "no experiment of this set tests it"


@dataclass(frozen=True, kw_only=True)
class Part:
    """How one arm behaved with respect to the claim.

    Attributes:
        arm: the arm.
        behaviour: whether the claim's part on this arm holds.
        measured: value, unit, interval and n.
        finding: what that means, as half a sentence that follows the arm's name.
        runs: run ids it was measured from.
    """

    arm: str
    behaviour: Behaviour
    measured: str
    finding: str
    runs: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The finding with its arm."""
        return f"{self.arm} {self.finding}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict of one card, or of a claim without one.

    Attributes:
        claim: id of the claim.
        verdict: ``reproduced``, ``not reproduced``, ``partly``, ``not testable here``, ``pending`` or ``undecided``.
        measured: values with unit, interval and n; empty where nothing was measured.
        budget: what the measurement cost and covered.
        distance: how far that is from the claim's budget.
        reason: why this verdict.
        runs: run ids of the measurement.
        card: the card; None where the set has none for the claim.
    """

    claim: str
    verdict: Ruling
    measured: str = ""
    budget: str = ""
    distance: str = ""
    reason: str = ""
    runs: tuple[str, ...] = ()
    card: ClaimCard | None = None


def without_card(claim: str) -> Verdict:
    """Return the verdict of a claim that no card of the set tests."""
    return Verdict(claim=claim, verdict="pending", reason=NO_CARD)


def rule(card: ClaimCard, arm: Part, control: Part | None, records: Sequence[Record]) -> Verdict:
    """Return a card's verdict from the behaviour of its arm and its control.

    The arm as claimed and the control, if any, as claimed: reproduced. The arm as claimed but the control not: partly.
    The arm otherwise: not reproduced. Anything undecided: undecided. Too few seeds: pending. A card with the bound
    ``at_most_partly`` turns reproduced into partly, for budgets too far from the claim's. Records that both, or several
    parts of a measurement, have count once.
    """
    records = list({record.run_id: record for record in records}.values())
    parts = [arm] if control is None else [arm, control]
    ruling, reason = _ruling(arm, control)
    if ruling == "reproduced" and card.bounds.get("at_most_partly"):
        ruling, reason = "partly", f"{reason}; this budget is too far from the claim's for more than partly"
    return Verdict(
        claim=card.claim,
        verdict=ruling,
        measured="; ".join(f"{part.arm}: {part.measured}" for part in parts if part.measured),
        budget=budget(records),
        distance=distance(card, records),
        reason="; ".join(text for text in (reason, card.reason) if text),
        runs=tuple(sorted({run for part in parts for run in part.runs})),
        card=card,
    )


def enough(card: ClaimCard, interval: Interval | None, noun: str = "seed") -> str:
    """Return an empty text where an interval has the card's number of seeds, else what is missing."""
    n = 0 if interval is None else interval.n
    return "" if n >= card.min_seeds else f"has {plural(n, noun)} of the {card.min_seeds} that the card asks for"


def no_run(runs: ArmRuns) -> str:
    """Return an empty text where an arm has runs, else what is missing; it may have some in another experiment."""
    return "" if runs.records else f"has no run of {runs.experiment} in this set"


def pending(arm: str, finding: str, measured: str = "", runs: tuple[str, ...] = ()) -> Part:
    """Return the part of an arm that cannot be judged yet."""
    return Part(arm=arm, behaviour="pending", measured=measured, finding=finding, runs=runs)


def as_control(part: Part, behaviour: Behaviour) -> Part:
    """Return a part with the behaviour that the claim wants of a control."""
    return replace(part, behaviour=behaviour)


def _ruling(arm: Part, control: Part | None) -> tuple[Ruling, str]:
    parts = [arm] if control is None else [arm, control]
    reason = "; ".join(part.sentence for part in parts)
    if arm.behaviour == "otherwise":
        return "not reproduced", reason
    if waiting := [part for part in parts if part.behaviour == "pending"]:
        return "pending", "; ".join(part.sentence for part in waiting)
    if any(part.behaviour == "undecided" for part in parts):
        return "undecided", reason
    if control is not None and control.behaviour == "otherwise":
        return "partly", f"the part on {arm.arm} holds, that on {control.arm} does not: {reason}"
    return "reproduced", reason
