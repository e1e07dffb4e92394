"""Verdicts on learning-rate transfer: drift of the optimum over width, and what a transferred rate loses."""

from gdnbench.claims import ClaimCard
from gdnbench.report.numbers import limits
from gdnbench.report.statistics import paired_difference, position
from gdnbench.report.study import Study
from gdnbench.report.transfer import Transfer, analyse
from gdnbench.report.verdicts.verdict import Behaviour, Part, Verdict, as_control, enough, no_run, pending, rule

DRIFT_UNIT = "octaves per doubling of width"
DRIFT_BOUND = 0.15
REGRET_BOUND = 0.01
HELD_OUT = "held-out seed"  # a regret takes a seed, and another that chooses its rates


def lr_transfer(card: ClaimCard, study: Study) -> Verdict:
    """Judge drift: the arm's interval inside ± ``bound_octaves_per_doubling`` (0.15), the control's outside it."""
    bound = card.bounds.get("bound_octaves_per_doubling", DRIFT_BOUND)
    runs = study.arm(card.experiment, card.arm)
    arm, control, records = drift_part(card, analyse(runs), bound), None, list(runs.records)
    if card.control:
        other = study.arm(card.experiment, card.control)
        part = drift_part(card, analyse(other), bound)
        turned: dict[Behaviour, Behaviour] = {"as claimed": "otherwise", "otherwise": "as claimed"}
        control = as_control(part, turned.get(part.behaviour, part.behaviour))
        records += other.records
    return rule(card, arm, control, records)


def transfer_regret(card: ClaimCard, study: Study) -> Verdict:
    """Judge cross-fitted regret: the arm's interval below ``bound_nats`` (0.01), the control's above the arm's.

    The control is compared by the paired difference over seeds, whose interval must lie above zero.
    """
    bound = card.bounds.get("bound_nats", REGRET_BOUND)
    runs = study.arm(card.experiment, card.arm)
    fitted = analyse(runs)
    arm, control, records = _regret_part(card, fitted, bound), None, list(runs.records)
    if card.control:
        other = study.arm(card.experiment, card.control)
        control = _control_regret(card, fitted, analyse(other), bound)
        records += other.records
    return rule(card, arm, control, records)


def drift_part(card: ClaimCard, fitted: Transfer, bound: float) -> Part:
    """Return how an arm's optimum drifts, as claimed where its interval lies inside ± ``bound``."""
    name, runs, drift = fitted.runs.arm, fitted.runs.run_ids, fitted.drift
    measured = "" if drift is None else f"drift {limits(drift, 3, DRIFT_UNIT)}"
    if problem := no_run(fitted.runs) or enough(card, drift):
        return pending(name, f"{problem}{_because(fitted)}", measured, runs)
    assert drift is not None
    place = position(drift, -bound, bound)
    texts: dict[str, tuple[Behaviour, str]] = {
        "inside": ("as claimed", f"keeps its best rate within ±{bound} {DRIFT_UNIT}"),
        "below": ("otherwise", f"needs lower rates with width, beyond ±{bound} {DRIFT_UNIT}"),
        "above": ("otherwise", f"needs higher rates with width, beyond ±{bound} {DRIFT_UNIT}"),
        "undecided": ("undecided", f"has an interval that crosses a bound of ±{bound} {DRIFT_UNIT}"),
        "pending": ("pending", "has too few seeds for an interval"),
    }
    behaviour, finding = texts[place]
    return Part(arm=name, behaviour=behaviour, measured=measured, finding=finding, runs=runs)


def _regret_part(card: ClaimCard, fitted: Transfer, bound: float) -> Part:
    name, runs, regret = fitted.runs.arm, fitted.runs.run_ids, fitted.regret
    measured = _regret_text(fitted)
    if problem := no_run(fitted.runs) or enough(card, regret, HELD_OUT):
        return pending(name, f"{problem}{_because(fitted)}", measured, runs)
    assert regret is not None
    if regret.low is not None and regret.low > bound:
        return _part(name, "otherwise", measured, f"loses more than {bound} nat by the transferred rate", runs)
    if regret.high is None:
        return pending(name, "has too few seeds for an interval", measured, runs)
    if fitted.at_least:
        finding = "has seeds without a run as far out as the transferred rate, so its regret is a lower limit"
        return _part(name, "undecided", measured, finding, runs)
    if regret.high < bound:
        return _part(name, "as claimed", measured, f"loses less than {bound} nat by the transferred rate", runs)
    return _part(name, "undecided", measured, f"has a regret whose interval crosses {bound} nat", runs)


def _control_regret(card: ClaimCard, arm: Transfer, control: Transfer, bound: float) -> Part:
    """Return how the control's regret compares with the arm's, over the seeds that both have."""
    name, runs = control.runs.arm, control.runs.run_ids
    measured = _regret_text(control)
    difference = paired_difference(
        {seed: regret.nats for seed, regret in control.regrets.items()},
        {seed: regret.nats for seed, regret in arm.regrets.items()},
    )
    if problem := no_run(control.runs) or enough(card, difference, HELD_OUT):
        return pending(name, f"{problem}{_because(control)}", measured, runs)
    assert difference is not None and control.regret is not None
    measured = f"{measured}; paired difference to {arm.runs.arm} {limits(difference, 4, 'nat')}"
    if difference.low is not None and difference.low > 0:
        return _part(name, "as claimed", measured, f"loses more than {arm.runs.arm} by the transferred rate", runs)
    if control.regret.high is not None and control.regret.high < bound and not control.at_least:
        return _part(name, "otherwise", measured, f"loses less than {bound} nat as well", runs)
    if difference.high is not None and difference.high < 0:
        return _part(name, "otherwise", measured, f"loses less than {arm.runs.arm}", runs)
    return _part(name, "undecided", measured, f"does not lose clearly more than {arm.runs.arm}", runs)


def _regret_text(fitted: Transfer) -> str:
    if fitted.regret is None:
        return ""
    prefix = "at least " if fitted.at_least else ""
    return f"regret at width {fitted.largest_width} {prefix}{limits(fitted.regret, 4, 'nat')}"


def _because(fitted: Transfer) -> str:
    return f" ({'; '.join(fitted.flags)})" if fitted.flags else ""


def _part(arm: str, behaviour: Behaviour, measured: str, finding: str, runs: tuple[str, ...]) -> Part:
    return Part(arm=arm, behaviour=behaviour, measured=measured, finding=finding, runs=runs)
