"""Verdicts: every claim judged by its cards, with the rule fixed before the runs."""

from collections.abc import Callable

from gdnbench.claims import ClaimCard, catalogue
from gdnbench.report.study import Study
from gdnbench.report.verdicts import activations, comparing, gating, inference, measured, transfer, tuning
from gdnbench.report.verdicts.verdict import Ruling, Verdict, pending, rule, without_card

__all__ = ["TESTS", "Ruling", "Verdict", "judge"]

TESTS: dict[str, Callable[[ClaimCard, Study], Verdict]] = {
    "lr_transfer": transfer.lr_transfer,
    "transfer_regret": transfer.transfer_regret,
    "coordinate_check": activations.coordinate_check,
    "gate_variance": activations.gate_variance,
    "gate_outputs": activations.gate_outputs,
    "readout_scale": activations.readout_scale,
    "loss_gap": comparing.loss_gap,
    "decode_ratio": comparing.decode_ratio,
    "tuning_cost": tuning.tuning_cost,
    "gating_cost": gating.gating_cost,
    "inference": inference.inference,
    "measured": measured.measured,
}

# Tests that read no experiment of the set, or only where the card names one.
ELSEWHERE = ("measured", "gating_cost", "inference")


def judge(study: Study) -> tuple[Verdict, ...]:
    """Return at least one verdict for every claim, in the ledger's order; a claim with several cards has several.

    A card that names nothing to measure only says why, and is left out where another set's card measures the claim.

    Raises:
        GdnbenchError: a card names a claim that is not in the catalogue; the message has the nearest ids.
    """
    claims = catalogue()
    for card in study.cards:
        claims.find(card.claim)
    verdicts: list[Verdict] = []
    for claim in claims.claims:
        cards = [card for card in study.cards if card.claim == claim.id]
        placed = [card for card in cards if card.experiment or card.set]
        verdicts += [_verdict(card, study) for card in placed or cards] or [without_card(claim.id)]
    return tuple(verdicts)


def _verdict(card: ClaimCard, study: Study) -> Verdict:
    """Judge one card; an experiment or arm that the set does not have leaves it pending, with the reason."""
    if card.test not in ELSEWHERE and (problem := _unknown_place(card, study)):
        return rule(card, pending(card.arm or "the card", problem), None, [])
    return TESTS[card.test](card, study)


def _unknown_place(card: ClaimCard, study: Study) -> str:
    experiment = study.experiment(card.experiment)
    if experiment is None:
        return f"has no experiment {card.experiment!r} in this set"
    if card.base and study.experiment(card.base) is None:
        return f"has no experiment {card.base!r} in this set"
    names = [runs.arm for runs in study.arms(experiment)]
    for name in filter(None, (card.arm, card.control)):
        if name not in names:
            return f"asks for the arm {name!r}; {card.experiment} has {', '.join(names)}"
    return ""
