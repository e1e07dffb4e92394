"""Verdict on what a transferred learning rate saves: a search at small width instead of one at the target."""

from gdnbench.claims import ClaimCard
from gdnbench.report.comparing import choose
from gdnbench.report.cost import Cost, Spent, cost, search_runs
from gdnbench.report.numbers import count, limits, log2_rate, number, plural, significant
from gdnbench.report.statistics import position
from gdnbench.report.study import Study
from gdnbench.report.verdicts.transfer import REGRET_BOUND
from gdnbench.report.verdicts.verdict import Behaviour, Part, Verdict, pending, rule

SAVING = 0.8


def tuning_cost(card: ClaimCard, study: Study) -> Verdict:
    """Judge whether the rate of the ``base`` experiment's smallest width does at the target, and what that saves.

    As claimed: the search there takes ``saving`` (0.8) less than the one at the target, by FLOPs, and the transferred
    rate is the one that the target's search chooses, or loses less than ``bound_nats`` (0.01) with its whole interval.
    """
    experiment = study.experiment(card.experiment)
    named = {} if experiment is None else {arm.name: arm.transferred_lr for arm in experiment.arms}
    at_target = cost(choose(study.arm(card.experiment, card.arm)), named.get(card.arm))
    small = study.arm(card.base, card.arm)
    width = min(small.widths(), default=None)
    at_base = search_runs(small.at(width)) if width is not None else Spent(records=())
    records = [*at_target.search.records, *at_target.final.records, *at_base.records]
    runs = tuple(record.run_id for record in records)
    if not at_target.search.flops or not at_base.flops:
        where = card.experiment if not at_target.search.flops else card.base
        return rule(card, pending(card.arm, f"has no search in {where} to count", "", runs), None, records)
    saving = 1 - at_base.flops / at_target.search.flops
    measured = f"{_text(at_target, at_base, width or 0)}; saved {number(100 * saving, 1)}% of the search's FLOPs"
    if at_target.regret is not None:
        measured += f"; loss at the transferred rate minus the chosen one's {limits(at_target.regret, 4, 'nat')}"
    behaviour, finding = _judged(card, at_target, saving)
    part = Part(arm=card.arm, behaviour=behaviour, measured=measured, finding=finding, runs=runs)
    return rule(card, part, None, records)


def _judged(card: ClaimCard, at_target: Cost, saving: float) -> tuple[Behaviour, str]:
    bound, least = card.bounds.get("bound_nats", REGRET_BOUND), card.bounds.get("saving", SAVING)
    if saving < least:
        return "otherwise", f"saves less than {100 * least:g}% of the search"
    transferred, chosen, regret = at_target.transferred, at_target.choice.rate, at_target.regret
    if transferred is None or chosen is None:
        return "pending", "names no rate that was transferred"
    if abs(transferred - chosen) < 1e-3:
        return (
            "as claimed",
            f"is best at the transferred rate, {log2_rate(transferred)}, of those that its search tried",
        )
    place = position(regret, high=bound)
    texts: dict[str, tuple[Behaviour, str]] = {
        "inside": ("as claimed", f"loses less than {bound} nat by the transferred rate"),
        "above": ("otherwise", f"loses more than {bound} nat by the transferred rate"),
        "undecided": ("undecided", f"has a loss by the transferred rate whose interval crosses {bound} nat"),
    }
    few = "was run at the transferred rate with too few seeds for an interval"
    return texts.get(place, ("pending", few))


def _text(at_target: Cost, at_base: Spent, width: int) -> str:
    search, share = at_target.search, at_target.search.flops / (at_target.search.flops + at_target.final.flops)
    return (
        f"search at width {at_target.choice.width}: {_spent(search)}, {number(100 * share, 0)}% of all its "
        f"FLOPs; search at width {width}: {_spent(at_base)}"
    )


def _spent(spent: Spent) -> str:
    hours = significant(spent.device_hours)
    return f"{plural(len(spent.records), 'run')}, {count(spent.tokens)} tokens, {hours} hours of the machine"
