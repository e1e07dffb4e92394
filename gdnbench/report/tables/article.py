"""The article's two tables, its figures beside what this set measured with the nearest arm."""

from dataclasses import dataclass

from gdnbench.claims import Claim, catalogue
from gdnbench.report import numbers
from gdnbench.report.comparing import Choice, choose
from gdnbench.report.content import Cell, Row, Table, missing, plain
from gdnbench.report.decoding import DecodePoint, points
from gdnbench.report.statistics import position
from gdnbench.report.study import ArmRuns, Study
from gdnbench.report.tables.cells import (
    claimed_briefly,
    claimed_cell,
    claimed_number,
    count_cell,
    scaled_cell,
    verdict_cell,
)
from gdnbench.report.transfer import analyse
from gdnbench.report.verdicts import Verdict
from gdnbench.report.verdicts.transfer import DRIFT_BOUND

PERPLEXITY = "whitespace_word_ppl"
OUT_OF_DOMAIN = "wt103_nounk_ppl"


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """The arm that a row of the article is set beside, and its experiment."""

    experiment: str
    runs: ArmRuns


def perplexity_table(study: Study, verdicts: tuple[Verdict, ...]) -> Table:
    """Return the article's table of perplexities and the two sentences on it, A1.1 to A1.8."""
    rows = []
    for claim in _claims("A1."):
        verdict = _verdict(claim, verdicts)
        rows.append(_model_row(claim, verdict, study) if claim.model else _sentence_row(claim, verdict, 9))
    return Table(
        name="table_a1",
        caption="Table A1. Perplexity and transfer: the article's figures beside this set's",
        columns=(
            "id",
            "model, in the article",
            "parameters, article's",
            "parameters, measured",
            "WikiText-103 perplexity, article's",
            "word perplexity, measured",
            "transfer, article's",
            "transfer, measured",
            "nearest arm and its budget",
            "verdict",
        ),
        rows=tuple(rows),
        note=(
            "Figures in italics are the article's, at 10B training tokens. Measured perplexities are per word between "
            "white space, on this set's own validation text at its own budget: they are no measurement of the "
            "article's number, nor is a perplexity out of domain. Transfer is measured as the drift of the best "
            f"learning rate over width: yes where its 95% interval lies inside ±{DRIFT_BOUND} octaves per doubling of "
            "width, no where it lies outside."
        ),
        wide=(1, 5, 7, 8),
    )


def inference_table(study: Study, verdicts: tuple[Verdict, ...]) -> Table:
    """Return the article's table of inference and its sentence, A2.1 to A2.5."""
    rows = []
    for claim in _claims("A2."):
        verdict = _verdict(claim, verdicts)
        rows.append(_speed_row(claim, verdict, study) if claim.model else _sentence_row(claim, verdict, 9))
    return Table(
        name="table_a2",
        caption="Table A2. Inference and memory: the article's figures beside this set's",
        columns=(
            "id",
            "architecture, in the article",
            "tokens/s, article's",
            "tokens/s, measured",
            "memory at 1B parameters (GB), article's",
            "memory, measured",
            "μP before / now, article's",
            "transfer, measured",
            "nearest arm and its budget",
            "verdict",
        ),
        rows=tuple(rows),
        note=(
            "Figures in italics are the article's; it names neither hardware nor batch, context or precision. Measured "
            "speeds are single-token steps after a prompt of the context's length; memory is weights plus the state "
            "at the longest context, of a model of the size shown."
        ),
        wide=(1, 3, 5, 7, 8),
    )


def _claims(prefix: str) -> list[Claim]:
    return [claim for claim in catalogue().claims if claim.id.startswith(prefix)]


def _verdict(claim: Claim, verdicts: tuple[Verdict, ...]) -> Verdict:
    return next(verdict for verdict in verdicts if verdict.claim == claim.id)


def _nearest(claim: Claim, verdict: Verdict, study: Study, kind: str) -> Nearest | None:
    """Return the card's arm where it names one of an experiment of this kind, else the catalogue's nearest arm."""
    names = [verdict.card.arm] if verdict.card is not None and verdict.card.arm else []
    named = [study.experiment(verdict.card.experiment)] if verdict.card is not None else []
    for experiment in [*(e for e in named if e is not None and e.kind == kind), *study.of_kind(kind)]:
        for arm in [*names, claim.arm]:
            if (runs := study.arm(experiment.name, arm)).records:
                return Nearest(experiment=experiment.name, runs=runs)
    return None


def _model_row(claim: Claim, verdict: Verdict, study: Study) -> Row:
    nearest = _nearest(claim, verdict, study, "comparison") or _nearest(claim, verdict, study, "lr_sweep")
    transfer, sweep_runs = _transfer_cell(claim, verdict, study)
    choice = None if nearest is None else choose(nearest.runs)
    cells = (
        Cell(text=claim.id, target=f"claim-{claim.id}"),
        plain(claim.model),
        claimed_number(claim, "params"),
        count_cell(None if choice is None else choice.first("params_total")),
        claimed_number(claim, "perplexity"),
        _perplexity_cell(choice),
        claimed_cell(claim, "transfer"),
        transfer,
        plain(_arm_budget(nearest, choice)) if nearest and choice else missing("no arm of this set is near"),
        verdict_cell(verdict.verdict),
    )
    runs = () if choice is None else choice.run_ids
    return Row(cells=cells, runs=tuple(sorted({*runs, *sweep_runs})))


def _perplexity_cell(choice: Choice | None) -> Cell:
    if choice is None:
        return missing(numbers.MISSING)
    mean = choice.mean(PERPLEXITY)
    if mean is None:
        return missing("diverged" if choice.diverged and not choice.chosen else numbers.MISSING)
    corpus = choice.chosen[0].spec["data"]["corpus"]
    cell, bits, words = scaled_cell(mean), choice.mean("bits_per_byte"), choice.mean(OUT_OF_DOMAIN)
    also = "" if bits is None else f" ({numbers.interval(bits, 3, 'bit/byte')})"
    also += "" if words is None else f"; {scaled_cell(words).text} on WikiText-103 without <unk>, out of domain"
    return Cell(text=f"{cell.text} on {corpus}{also}", value=cell.value, interval=cell.interval)


def _transfer_cell(claim: Claim, verdict: Verdict, study: Study) -> tuple[Cell, tuple[str, ...]]:
    """Return whether the arm's best rate stays the same over width, and the runs that say so."""
    nearest = _nearest(claim, verdict, study, "lr_sweep")
    if nearest is None:
        return missing(numbers.MISSING), ()
    drift = analyse(nearest.runs).drift
    if drift is None or drift.half_width is None:
        n = 0 if drift is None else drift.n
        return missing(f"pending: drift from {numbers.plural(n, 'seed')}"), nearest.runs.run_ids
    word = {"inside": "yes", "undecided": "undecided"}.get(position(drift, -DRIFT_BOUND, DRIFT_BOUND), "no")
    text = f"{word}: {numbers.interval(drift, 2)} octaves per doubling"
    return Cell(text=text, value=word, interval=drift), nearest.runs.run_ids


def _arm_budget(nearest: Nearest, choice: Choice) -> str:
    tokens = choice.first("train_tokens")
    trained = "" if tokens is None else f", {numbers.count(tokens)} tokens"
    return f"{nearest.runs.arm} in {nearest.experiment}, width {choice.width}{trained}"


def _speed_row(claim: Claim, verdict: Verdict, study: Study) -> Row:
    nearest = _nearest(claim, verdict, study, "decode") or _nearest_by_arch(claim, study)
    found = [] if nearest is None else points(nearest.runs)
    transfer, sweep_runs = _transfer_cell(claim, verdict, study)
    before, now = (claimed_cell(claim, name).text for name in ("mup_before", "mup_now"))
    cells = (
        Cell(text=claim.id, target=f"claim-{claim.id}"),
        plain(claim.model),
        claimed_number(claim, "tokens_per_s"),
        _speeds(found),
        claimed_number(claim, "memory"),
        _memory(found),
        Cell(text=f"{before} / {now}", tone="source"),
        transfer,
        plain(_decode_budget(nearest, found)) if nearest and found else missing("no arm of this set is near"),
        verdict_cell(verdict.verdict),
    )
    runs = {record.run_id for point in found for record in point.records}
    return Row(cells=cells, runs=tuple(sorted({*runs, *sweep_runs})))


def _nearest_by_arch(claim: Claim, study: Study) -> Nearest | None:
    for experiment in study.of_kind("decode"):
        for runs in study.arms(experiment):
            if runs.arch == claim.arch:
                return Nearest(experiment=experiment.name, runs=runs)
    return None


def _speeds(found: list[DecodePoint]) -> Cell:
    texts = [
        f"{numbers.significant(mean.mean)} at {point.context:,} tokens (n = {mean.n})"
        for point in found
        if (mean := point.mean("tokens_per_s")) is not None
    ]
    return plain("; ".join(texts)) if texts else missing(numbers.MISSING)


def _memory(found: list[DecodePoint]) -> Cell:
    if not found:
        return missing(numbers.MISSING)
    state, weights, params = (found[-1].mean(name) for name in ("state_bytes", "weights_gib", "params_total"))
    if state is None or weights is None:
        return missing(numbers.MISSING)
    total = weights.mean * 1024**3 + state.mean
    model = "" if params is None else f", {numbers.count(params.mean)} parameters"
    return plain(f"{numbers.size(total)} at {found[-1].context:,} tokens{model}", total)


def _decode_budget(nearest: Nearest, found: list[DecodePoint]) -> str:
    record = found[0].records[0]
    device = record.environment.get("device", "?")
    return f"{nearest.runs.arm} in {nearest.experiment}, batch {found[0].batch}, {record.spec['dtype']} on {device}"


def _sentence_row(claim: Claim, verdict: Verdict, columns: int) -> Row:
    """Return the row of a claim about the table: the claimed figures, then what was measured, then the verdict."""
    measured = plain(verdict.measured) if verdict.measured else missing(verdict.reason or numbers.MISSING)
    blank = plain("")
    cells = [Cell(text=claim.id, target=f"claim-{claim.id}"), plain(claim.statement), *[blank] * (columns - 2)]
    claimed, shown = (4, 5) if claim.id.startswith("A1.") else (2, 3)
    cells[claimed], cells[shown], cells[8] = claimed_briefly(claim), measured, plain(verdict.budget)
    return Row(cells=(*cells, verdict_cell(verdict.verdict)), runs=verdict.runs)
