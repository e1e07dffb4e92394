"""What the numbers say, in sentences that the numbers choose."""

from collections.abc import Sequence

from gdnbench.report import numbers
from gdnbench.report.activations import CoordinateCheck
from gdnbench.report.analysis import Analysis
from gdnbench.report.comparing import METRIC, Choice
from gdnbench.report.documents import reference_of
from gdnbench.report.sections.horizons import length_verdict
from gdnbench.report.sections.texts import document_sentences
from gdnbench.report.statistics import paired_difference, position
from gdnbench.report.transfer import Transfer
from gdnbench.report.verdicts.activations import BOUND
from gdnbench.report.verdicts.transfer import DRIFT_BOUND, DRIFT_UNIT

PLACES = {
    "inside": f"Keeps its best learning rate over width (drift wholly inside ±{DRIFT_BOUND} {DRIFT_UNIT})",
    "below": "Needs lower learning rates with width",
    "above": "Needs higher learning rates with width",
    "undecided": f"Undecided (an interval that crosses ±{DRIFT_BOUND})",
    "pending": "Pending (fewer than 3 seeds with a slope)",
}


def findings(analysis: Analysis) -> list[str]:
    """Return one sentence a finding: drift by how it ended, the comparisons' order."""
    found = []
    for experiment, transfers in (*analysis.sweeps, *analysis.continued):
        found += drift_summary(experiment.title or experiment.name, transfers)
    for _, checks in analysis.checks:
        found += coordinate_summary(checks)
    found += [sentence for _, arms in analysis.horizons for arm in arms for sentence in length_verdict(arm)]
    for experiment, choices in analysis.comparisons:
        said = comparison_sentences(choices)
        if (reference := reference_of(experiment, choices)) is not None:
            said += document_sentences(analysis.texts[experiment.name], reference.runs.arm)
        several = len(analysis.comparisons) > 1
        found += [f"{experiment.title or experiment.name}. {sentence}" for sentence in said] if several else said
    return found


def coordinate_summary(checks: Sequence[CoordinateCheck]) -> list[str]:
    """Return one sentence a coordinate check: how many slopes of each arm lie outside the bound, or across it."""
    parts = []
    for check in checks:
        places = [position(slope.slope, -BOUND, BOUND) for slope in check.counted]
        if judged := [place for place in places if place != "pending"]:
            outside, across = sum(p in ("below", "above") for p in judged), judged.count("undecided")
            parts.append(f"{check.runs.arm} {outside} and {across} of {len(judged)}")
    if not parts:
        return []
    rule = f"Coordinate check: of the judged slopes over width so many lie wholly outside ±{BOUND}, and across it"
    return [f"{rule}: {'; '.join(parts)}."]


def drift_summary(title: str, transfers: Sequence[Transfer]) -> list[str]:
    """Return one sentence an experiment: its arms of several widths by how their drift ended, with its number."""
    transfers = [fitted for fitted in transfers if len(fitted.curves) > 1]
    if not transfers:
        return []
    parts = []
    for place, words in PLACES.items():
        arms = [fitted for fitted in transfers if position(fitted.drift, -DRIFT_BOUND, DRIFT_BOUND) == place]
        if arms:
            names = [numbers.quoted(a.runs.arm) for a in arms]
            drifts = [f" ({numbers.interval(a.drift, 2)})" if a.drift else "" for a in arms]
            shown = [f"{name}{drift}" for name, drift in zip(names, drifts)]
            parts.append(f"{words}: {numbers.listed(shown)}")
    return [f"{title}. {'. '.join(parts)}."]


def transfer_sentence(transfer: Transfer) -> str:
    """Return what an arm's best learning rate does over width, with its interval."""
    arm, drift = transfer.runs.arm, transfer.drift
    if len(transfer.curves) < 2:
        return f"{arm} has runs at one width, so no drift: {_best(transfer)}."
    if drift is None or drift.half_width is None:
        n = 0 if drift is None else drift.n
        flags = [flag for flag in transfer.flags if not flag.startswith("regret")]
        why = f" ({'; '.join(flags)})" if flags else ""
        return f"{arm}: drift pending, {numbers.plural(n, 'seed')} with a slope where 3 are needed{why}."
    words = {
        "inside": "keeps its best learning rate over width",
        "below": "needs lower learning rates with width",
        "above": "needs higher learning rates with width",
    }
    place = position(drift, -DRIFT_BOUND, DRIFT_BOUND)
    text = words.get(place, f"neither keeps its best learning rate within ±{DRIFT_BOUND} nor clearly leaves it")
    return f"{arm} {text}: drift {numbers.limits(drift, 3, DRIFT_UNIT)}."


def _best(transfer: Transfer) -> str:
    """Return the best rate at every width."""
    shown = []
    for width, curve in transfer.curves.items():
        if curve.interval is not None:
            shown.append(f"log2 of the best rate at width {width} is {numbers.interval(curve.interval, 2)}")
        elif curve.optimum.best is not None:
            flags = f" ({', '.join(curve.optimum.flags)})" if curve.optimum.flags else ""
            shown.append(f"the best rate tried at width {width} is {numbers.log2_rate(curve.optimum.best)}{flags}")
    return "; ".join(shown) or "no run finished"


def control_notice(experiment: str, transfers: Sequence[Transfer]) -> list[str]:
    """Return what must be said where the standard parametrization does not drift as the claim needs it to."""
    notices = []
    for transfer in transfers:
        if transfer.runs.table != "sp":
            continue
        place = position(transfer.drift, -DRIFT_BOUND, DRIFT_BOUND)
        if place == "inside":
            notices.append(
                f"In {experiment}, {transfer.runs.arm} did not drift: its best learning rate stays within "
                f"±{DRIFT_BOUND} {DRIFT_UNIT} without μP. Transfer under μP shows no advantage of μP here."
            )
        elif place == "undecided":
            notices.append(
                f"Whether {transfer.runs.arm} drifts in {experiment} is undecided, so transfer under μP is no evidence "
                "of an advantage of μP here."
            )
    return notices


def comparison_sentences(choices: Sequence[Choice]) -> list[str]:
    """Return the lowest loss, and whether its lead over each other arm is more than seed noise."""
    known = {choice.runs.arm: choice for choice in choices if choice.by_seed(METRIC)}
    if len(known) < 2:
        return []
    losses = {arm: sum(c.by_seed(METRIC).values()) / len(c.by_seed(METRIC)) for arm, c in known.items()}
    best = min(losses, key=lambda arm: losses[arm])
    beaten: list[str] = []
    level: list[str] = []
    for arm, choice in known.items():
        if arm != best:
            lead = paired_difference(choice.by_seed(METRIC), known[best].by_seed(METRIC))
            (beaten if position(lead, high=0.0) == "above" else level).append(arm)
    mean = known[best].mean(METRIC)
    assert mean is not None
    text = f"{best} has the lowest validation loss of the comparison, {numbers.limits(mean, 4, 'nat/token')}"
    if beaten:
        text += f"; its lead over {numbers.listed(beaten)} is more than seed noise (paired 95% interval above zero)"
    if level:
        text += f"; its lead over {numbers.listed(level)} is not shown to be more than seed noise"
    return [f"{text}."]
