"""Claims that a preset can only illustrate: values are shown, the verdict is the card's own."""

from gdnbench.claims import ClaimCard
from gdnbench.report.comparing import METRIC, choose
from gdnbench.report.decoding import points
from gdnbench.report.numbers import metric_name, quantity, significant
from gdnbench.report.study import Study
from gdnbench.report.transfer import analyse
from gdnbench.report.verdicts.budget import budget, distance
from gdnbench.report.verdicts.verdict import Verdict, no_run
from gdnbench.results import Record

NO_RULE = "shown only: the card states no rule for a verdict"


def measured(card: ClaimCard, study: Study) -> Verdict:
    """Return the card's fixed verdict with the values of its arms; ``pending`` where it fixes none."""
    names = [name for name in (card.arm, card.control) if name and card.experiment]
    shown = {name: _values(card, study, name) for name in names}
    records = list({record.run_id: record for _, used in shown.values() for record in used}.values())
    waiting = [f"{name} {no_run(study.arm(card.experiment, name))}" for name, (_, used) in shown.items() if not used]
    reason = card.reason or ("" if card.verdict else NO_RULE)
    return Verdict(
        claim=card.claim,
        verdict=card.verdict or "pending",
        measured="; ".join(f"{name}: {text}" for name, (text, _) in shown.items() if text),
        budget=budget(records),
        distance=distance(card, records),
        reason="; ".join(waiting) if waiting and card.verdict in ("", "pending") else reason,
        runs=tuple(sorted(record.run_id for record in records)),
        card=card,
    )


def _values(card: ClaimCard, study: Study, arm: str) -> tuple[str, list[Record]]:
    """Return an arm's values in words, and the records they come from."""
    experiment, runs = study.experiment(card.experiment), study.arm(card.experiment, arm)
    if experiment is None or not runs.records:
        return "", []
    if experiment.kind == "lr_sweep":
        best = {w: c.optimum.loss for w, c in analyse(runs).curves.items() if c.optimum.loss is not None}
        losses = ", ".join(f"{loss:.4f} at width {width}" for width, loss in best.items())
        return f"best validation loss {losses} nat/token" if losses else "", list(runs.records)
    if experiment.kind == "decode":
        return _decode_values(card, study, arm)
    if experiment.kind == "coord_check":
        return "see the table of coordinate slopes", list(runs.records)
    choice, metric = choose(runs), card.metric or METRIC
    mean = choice.mean(metric)
    if mean is None:
        return "", []
    return f"{metric_name(metric)} {quantity(mean, choice.chosen[0].metrics[metric]['unit'])}", list(choice.chosen)


def _decode_values(card: ClaimCard, study: Study, arm: str) -> tuple[str, list[Record]]:
    metric = card.metric or "tokens_per_s"
    found = [(point, mean) for point in points(study.arm(card.experiment, arm)) if (mean := point.mean(metric))]
    texts = [f"{significant(mean.mean)} at context {point.context:,} (n = {mean.n})" for point, mean in found]
    return f"{metric_name(metric)} {', '.join(texts)}" if texts else "", [
        r for point, _ in found for r in point.records
    ]
