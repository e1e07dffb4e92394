"""Generation: speeds and memory over the grid, prompts, the article's table, and all records."""

from collections.abc import Sequence

from gdnbench.claims import Claim, catalogue
from gdnbench.report import numbers
from gdnbench.report.content import Cell, Row, Table, missing, plain
from gdnbench.report.generation import REFERENCE, Generation, Grid, ratio
from gdnbench.report.speeds import OURS, SAME_WORK
from gdnbench.report.tables.cells import claimed_briefly, claimed_number, verdict_cell
from gdnbench.report.tables.kernels import origin_cells, outcome_cell, ratio_text
from gdnbench.report.verdicts import Verdict
from gdnbench.report.verdicts.inference import ratios, where_it_comes_out
from gdnbench.results import Record

NOTE = (
    "Each implementation of a model is a process of its own; weights are random, which speed does not depend on. A "
    "row shows a time only where the logits of given tokens, step by step, agreed with a forward pass in float32 "
    "(of a library: where it generated what it was asked for). Tokens/s: of all rows together, over all timed "
    "tokens, without a wait between them. Of floor: over those of the least step, from the bytes of weights and "
    "states or caches over the read bandwidth, or operations over the matmul rate, both measured in the same run. "
    "First token: from a prompt on the device to its token on the host, of as many prompts as were fed: ours feeds "
    "one and copies its state to the other rows. Ours over it: tokens/s of ours over the row's with its 95% "
    "bootstrap interval over stretches (not over processes), where the parameters agree within "
    f"{100 * SAME_WORK:g}%. Peak memory: while prompts were fed or tokens generated, whichever was more."
)
COLUMNS = (
    "model", "size", "implementation", "parameters", "batch", "context", "tokens/s", "of floor", "ours over it",
    "median (ms/token)", "99th percentile (ms/token)", "first token (ms)", "prompts fed", "prompt (tokens/s)",
    "weights (GiB)", "states or cache (GiB)", "workspace (GiB)", "peak (GiB)",
)  # fmt: skip


def generation_table(found: Grid) -> Table:
    """Return one row a place and implementation; the page shows least and middle batches, the files all."""
    shown = {g.place[0] for g in found.found if g.impl != OURS} or {g.place[0] for g in found.found}
    here = [g for g in found.found if g.place[0] in shown and (found.sizes and g.model[2] == found.sizes[0])]
    rest = [g for g in found.found if g not in here]
    return Table(
        name="generation_speed",
        caption="Speed and memory of generation",
        columns=COLUMNS,
        rows=tuple(_row(g, found) for g in here),
        more=tuple(_row(g, found) for g in rest),
        note=NOTE + (f" {numbers.plural(len(rest), 'row')} more are in the table's files." if rest else ""),
        wide=(6,),
    )


def prefill_table(found: Grid) -> Table:
    """Return prompts of one row: throughput, share of the matmul floor, one mixer alone, memory."""
    rows = [g for g in found.found if g.place[0] == 1 and g.rate is not None]
    return Table(
        name="prompts",
        caption="One prompt, fed at once",
        columns=(
            "model", "size", "implementation", "context", "tokens/s", "of matmul floor", "first token (ms)",
            "one mixer alone (ms)", "its time over ours", "peak memory while fed (GiB)",
        ),
        rows=tuple(_prompt_row(g, found) for g in rows),
        note="Of matmul floor: over the operations of all layers, and of the head for the last token, at the measured "
        "matmul rate. One mixer alone: the first block's mixer, its projections included, on as many tokens.",
    )  # fmt: skip


def inference_claims_table(found: Grid, verdicts: Sequence[Verdict]) -> Table:
    """Return the article's table of inference beside the stated place, and where its numbers come out."""
    assert found.stated is not None
    size, (batch, context) = found.stated
    rows = [
        _claim_row(catalogue().find(verdict.claim), verdict, found)
        for verdict in verdicts
        if verdict.claim.startswith("A2.")
    ]
    return Table(
        name="table_a2",
        caption=f"Table A2. Inference and memory: the article's figures beside models of {size} at batch {batch}, "
        f"context {context:,}",
        columns=(
            "id", "architecture, in the article", "tokens/s, article's", "tokens/s, measured", "of floor",
            "over the Transformer's, article's", "over the Transformer's, measured",
            "memory at 1B parameters (GB), article's", "memory, measured (GB)", "measured under",
            "where on our grid the article's numbers come out", "verdict",
        ),
        rows=tuple(rows),
        note="Figures in italics are the article's; it names neither hardware nor batch, context or precision, so the "
        "least batch and context of the largest models are set beside them. Memory: the allocator's peak while tokens "
        "are generated, in 10^9 bytes: weights, states or caches and workspace. Ratios with their 95% bootstrap "
        "intervals over timed stretches of the same run.",
        wide=(1, 9, 10),
    )  # fmt: skip


def generation_runs_table(records: Sequence[Record]) -> Table:
    """Return a row a record: what the page's numbers were made from."""
    return Table(
        name="runs",
        caption="All speeds of generation of this set",
        columns=("run", "outcome", "tokens/s", "check", "commit", "source digest", "detail"),
        rows=tuple(
            Row(
                cells=(
                    plain(record.run_id),
                    outcome_cell(record),
                    _number(record, "tokens_per_s", 1),
                    plain(str(record.data.get("checked") or "")),
                    *origin_cells(record),
                ),
                anchor=f"run-{record.run_id}",
            )
            for record in records
        ),
        runs_column=False,
        wide=(0, 3, 6),
    )


def rate_cell(g: Generation) -> Cell:
    """Return a throughput, or in its place why there is none."""
    if g.record.data.get("correct") is False:
        return Cell(text=f"red: {g.record.detail}", tone="bad")
    if g.rate is None:
        return missing(g.record.detail or g.record.outcome)
    return plain(numbers.significant(g.rate, 4) if g.rate < 1e5 else numbers.number(g.rate, 0), g.rate)


def _row(g: Generation, found: Grid) -> Row:
    record, ours = g.record, None if g.impl == OURS or g.rate is None else found.same_work(g)
    over = None if ours is None else ratio(ours, g)
    return Row(
        cells=(
            plain(f"{g.arch} ({g.model[1]})"),
            plain(g.model[2]),
            plain(g.impl),
            _number(record, "params_total", 0),
            plain(str(g.place[0]), g.place[0]),
            plain(f"{g.place[1]:,}", g.place[1]),
            rate_cell(g),
            _percent(g.of_floor),
            plain("") if over is None else Cell(text=ratio_text(over), value=over.mean, interval=over),
            _number(record, "ms_per_token_p50", 3),
            _number(record, "ms_per_token_p99", 3),
            _number(record, "ttft_ms", 1),
            plain("; ".join(note for note in record.notes if note.startswith(("one prompt", "prompt")))),
            _number(record, "prefill_tokens_per_s", 0),
            _number(record, "weights_gib", 2),
            _number(record, "state_gib", 3),
            _number(record, "workspace_gib", 2),
            _number(record, "peak_gib", 2),
        ),
        runs=(record.run_id,),
    )


def _prompt_row(g: Generation, found: Grid) -> Row:
    ours = None if g.impl == OURS else found.same_work(g)
    mine, theirs = (None if one is None else one.record.metric("mixer_ms") for one in (ours, g))
    over = theirs / mine if mine and theirs else None
    return Row(
        cells=(
            plain(f"{g.arch} ({g.model[1]})"),
            plain(g.model[2]),
            plain(g.impl),
            plain(f"{g.place[1]:,}", g.place[1]),
            _number(g.record, "prefill_tokens_per_s", 0),
            _percent(g.of_prefill_floor),
            _number(g.record, "ttft_ms", 1),
            _number(g.record, "mixer_ms", 3),
            plain("") if over is None else plain(numbers.number(over, 2), over),
            _number(g.record, "peak_gib", 2),
        ),
        runs=(g.record.run_id,),
    )


def _claim_row(claim: Claim, verdict: Verdict, found: Grid) -> Row:
    cell = Cell(text=claim.id, target=f"claim-{claim.id}")
    if not claim.arch:
        blank = plain("")
        measured = plain(verdict.measured) if verdict.measured else missing(verdict.reason)
        cells = (cell, plain(claim.statement), *[blank] * 3, claimed_briefly(claim), measured, *[blank] * 2)
        return Row(
            cells=(*cells, plain(verdict.budget), plain(verdict.reason), verdict_cell(verdict.verdict)),
            runs=verdict.runs,
        )
    assert found.stated is not None
    size, place = found.stated
    here = found.at(claim.arch, size, place)
    over = None if claim.arch == REFERENCE else ratios(found, claim.arch, size).get(place)
    first = catalogue().find("A2.1")
    rates = [each.claimed["tokens_per_s"].value for each in (claim, first)]
    assert isinstance(rates[0], float) and isinstance(rates[1], float)
    memory = None if here is None else here.memory_gb
    return Row(
        cells=(
            cell,
            plain(claim.model),
            claimed_number(claim, "tokens_per_s"),
            missing(numbers.MISSING) if here is None else rate_cell(here),
            _percent(None if here is None else here.of_floor),
            Cell(text=numbers.number(rates[0] / rates[1], 2), tone="source"),
            plain("") if over is None else Cell(text=ratio_text(over), value=over.mean, interval=over),
            claimed_number(claim, "memory"),
            missing(numbers.MISSING) if memory is None else plain(numbers.number(memory, 2), memory),
            plain(verdict.budget),
            plain(where_it_comes_out(claim, found)),
            verdict_cell(verdict.verdict),
        ),
        runs=verdict.runs,
    )


def _number(record: Record, name: str, digits: int) -> Cell:
    value = record.metric(name)
    return plain("") if value is None else plain(numbers.number(value, digits), value)


def _percent(value: float | None) -> Cell:
    return plain("") if value is None else plain(f"{numbers.number(100 * value, 0)}%", value)
