"""Verdicts on differences between arms: a gap of loss or perplexity, a ratio of generation speed."""

import math

from gdnbench.claims import ClaimCard
from gdnbench.report import numbers
from gdnbench.report.comparing import METRIC, SPEED, choose
from gdnbench.report.decoding import DecodePoint, points
from gdnbench.report.numbers import decimals, limits, listed, metric_name, number
from gdnbench.report.statistics import Interval, paired_difference, position, t_interval
from gdnbench.report.study import Study
from gdnbench.report.verdicts.verdict import Behaviour, Part, Verdict, enough, pending, rule
from gdnbench.results import Record


def loss_gap(card: ClaimCard, study: Study) -> Verdict:
    """Judge ``arm - control`` of a metric, paired over seeds: its interval at or below ``bound`` (unit of the metric).

    "Within 0.3" is the bound 0.3; "better by 1.3" is the bound -1.3; "better" is the bound 0.
    """
    metric, bound = card.metric or METRIC, card.bounds.get("bound", 0.0)
    arm, control = (choose(study.arm(card.experiment, name)) for name in (card.arm, card.control))
    records = [*arm.chosen, *control.chosen]
    runs = tuple(record.run_id for record in records)
    gap = paired_difference(arm.by_seed(metric), control.by_seed(metric))
    if gap is None:
        missing = [choice.runs.arm for choice in (arm, control) if not choice.by_seed(metric)]
        finding = f"cannot be compared: no {metric_name(metric)} of {listed(missing or [card.arm])} in this set"
        return rule(card, pending(card.arm, finding, "", runs), None, records)
    measured = (
        f"{metric_name(metric)} minus that of {card.control} {limits(gap, decimals(gap.mean), _unit(records, metric))}"
    )
    if problem := enough(card, gap):
        return rule(card, pending(card.arm, problem, measured, runs), None, records)
    texts: dict[str, tuple[Behaviour, str]] = {
        "inside": ("as claimed", f"is at most {number(bound, 2)} above {card.control}"),
        "above": ("otherwise", f"is more than {number(bound, 2)} above {card.control}"),
        "undecided": ("undecided", f"has an interval across the bound of {number(bound, 2)}"),
        "pending": ("pending", "has too few seeds for an interval"),
    }
    behaviour, finding = texts[position(gap, high=bound)]
    part = Part(arm=card.arm, behaviour=behaviour, measured=measured, finding=finding, runs=runs)
    return rule(card, part, None, records)


def decode_ratio(card: ClaimCard, study: Study) -> Verdict:
    """Judge tokens/s of the arm over that of the control, at each context: between ``low`` and ``high``.

    With 3 seeds or more the interval of the ratio is judged, with fewer its mean. All contexts inside: reproduced;
    some: partly; none: not reproduced.
    """
    low, high = card.bounds.get("low", 0.0), card.bounds.get("high", math.inf)
    arm, control = (points(study.arm(card.experiment, name)) for name in (card.arm, card.control))
    pairs = [(a, c) for a in arm for c in control if (a.context, a.batch) == (c.context, c.batch)]
    records = [record for pair in pairs for point in pair for record in point.records]
    runs = tuple(record.run_id for record in records)
    ratios = {a.context: ratio for a, c in pairs if (ratio := speed_ratio(a, c)) is not None}
    measured = _ratio_text(ratios, card.control)
    problems = [problem for ratio in ratios.values() if (problem := enough(card, ratio, "run"))]
    if not ratios or problems:
        finding = problems[0] if problems else f"and {card.control} have no context in common in this set"
        return rule(card, pending(card.arm, finding, measured, runs), None, records)
    inside = {context: _within(ratio, low, high) for context, ratio in ratios.items()}
    return _ratio_verdict(card, inside, measured, runs, records, f"{low:g} to {high:g} times")


def speed_ratio(arm: DecodePoint, control: DecodePoint) -> Interval | None:
    """Return the interval of tokens/s over the control's, from the logarithms, paired over seeds."""
    first, second = arm.by_seed(SPEED), control.by_seed(SPEED)
    logs = t_interval(math.log(first[seed] / second[seed]) for seed in sorted(set(first) & set(second)))
    if logs is None:
        return None
    low, high = (None if end is None else math.exp(end) for end in (logs.low, logs.high))
    return Interval(mean=math.exp(logs.mean), low=low, high=high, n=logs.n)


def _ratio_text(ratios: dict[int, Interval], control: str) -> str:
    if not ratios:
        return ""
    texts = [f"{numbers.interval(ratio, 2)} at context {context:,}" for context, ratio in ratios.items()]
    return f"tokens/s over that of {control}: {'; '.join(texts)}"


def _within(ratio: Interval, low: float, high: float) -> Behaviour:
    if ratio.low is None:
        return "as claimed" if low <= ratio.mean <= high else "otherwise"
    place = position(ratio, low, high)
    return {"inside": "as claimed", "undecided": "undecided"}.get(place, "otherwise")  # type: ignore[return-value]


def _ratio_verdict(
    card: ClaimCard,
    inside: dict[int, Behaviour],
    measured: str,
    runs: tuple[str, ...],
    records: list[Record],
    span: str,
) -> Verdict:
    """Return the verdict over contexts; some inside and some outside is partly, by context."""
    holding = [str(context) for context, behaviour in inside.items() if behaviour == "as claimed"]
    failing = [str(context) for context, behaviour in inside.items() if behaviour == "otherwise"]
    part = Part(arm=card.arm, behaviour="as claimed", measured=measured, finding="", runs=runs)
    if holding and failing:
        held = Part(**{**part.__dict__, "finding": f"is {span} as fast at context {listed(holding)}"})
        lost = Part(arm=card.arm, behaviour="otherwise", measured="", finding=f"is not at {listed(failing)}", runs=runs)
        return rule(card, held, lost, records)
    if failing and not holding and len(failing) == len(inside):
        finding, behaviour = f"is {span} as fast at no context", "otherwise"
    elif len(holding) == len(inside):
        finding, behaviour = f"is {span} as fast at every context", "as claimed"
    else:
        finding, behaviour = f"has intervals across the bounds of {span}", "undecided"
    return rule(card, Part(**{**part.__dict__, "finding": finding, "behaviour": behaviour}), None, records)


def _unit(records: list[Record], metric: str) -> str:
    unit = next((r.metrics[metric]["unit"] for r in records if metric in r.metrics), "")
    return "" if unit == "1" else unit
