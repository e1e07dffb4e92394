"""A comparison: every arm's budget, chosen rate and losses."""

from collections.abc import Iterable

from gdnbench.presets.schema import Experiment
from gdnbench.report import numbers
from gdnbench.report.comparing import Choice
from gdnbench.report.content import Cell, Row, Table, missing, plain
from gdnbench.report.tables.cells import bytes_cell, count_cell, interval_cell, scaled_cell
from gdnbench.report.tables.rules import title_of

# Metrics that not every study measures, with their columns.
OPTIONAL = {
    "test_loss": "test loss (nat/token)",
    "carried_val_loss": "one stretch of text, state carried (nat/token)",
    "uncarried_val_loss": "the same, not carried (nat/token)",
    "test_documents_bits_per_byte": "whole test documents (bits per byte)",
    "wikitext_103_bits_per_byte": "WikiText-103 test (bits per byte)",
    "wt103_nounk_ppl": "WikiText-103 test, perplexity a word without <unk>, out of domain",
    "wt103_token_ppl": "WikiText-103 test, perplexity a word",
}


def comparison_table(experiment: Experiment, choices: list[Choice], rules: Iterable[str] = ()) -> Table:
    """Return one row an arm; a metric that no arm has gets no column. ``rules``: titles of the stored rules."""
    titles = list(rules)
    measured = {name: title for name, title in OPTIONAL.items() if any(choice.by_seed(name) for choice in choices)}
    return Table(
        name=f"comparison_{experiment.name}" if experiment.name != "comparison" else "comparison",
        caption=experiment.title or f"Comparison: {experiment.name}",
        columns=(
            "arm",
            "parametrization",
            "width",
            "parameters",
            "without embedding",
            "off the matched budget (%)",
            "state a sequence",
            "training tokens",
            "epochs",
            "training FLOPs",
            "learning rate (of rates tried)",
            "validation loss (nat/token)",
            "bits per byte",
            "perplexity a word",
            *measured.values(),
        ),
        rows=tuple(
            _row(choice, title_of(choice.runs, titles), list(measured), matched=experiment.match is not None)
            for choice in choices
        ),
        note=_note(experiment),
        wide=(1,),
    )


def _note(experiment: Experiment) -> str:
    matched = "Nothing is matched by design. "
    if experiment.match is not None:
        rule = experiment.match
        matched = f"Matched by {rule.by} to {rule.reference}, tolerance {rule.tolerance:.1%}. "
    return (
        f"{matched}Each arm at its own best learning rate of those tried, by mean validation loss over seeds; loss at "
        "a chosen rate is slightly favoured by the choice. Mean ± half-width of the Student t 95% interval over n "
        "seeds, left out below 3 seeds. State: what one sequence carries at the training length."
    )


def _row(choice: Choice, rules: str, measured: list[str], *, matched: bool) -> Row:
    reason = why_missing(choice)
    deviation, epochs = choice.first("match_deviation"), choice.first("epochs")
    cells = (
        plain(choice.runs.arm),
        plain(rules),
        missing(reason) if choice.width is None else plain(str(choice.width), choice.width),
        count_cell(choice.first("params_total"), reason=reason),
        count_cell(choice.first("params_non_embedding"), reason=reason),
        missing(reason if matched else "nothing is matched")
        if deviation is None
        else plain(numbers.number(100 * deviation, 2), 100 * deviation),
        bytes_cell(choice.first("state_bytes"), reason=reason),
        count_cell(choice.first("train_tokens"), reason=reason),
        missing(reason) if epochs is None else plain(numbers.significant(epochs), epochs),
        _flops(choice, reason),
        rate_cell(choice, reason),
        interval_cell(choice.mean("val_loss"), 4, reason=reason),
        interval_cell(choice.mean("bits_per_byte"), 4, reason=reason),
        scaled_cell(choice.mean("whitespace_word_ppl"), reason=reason),
        *(_metric(choice, name, reason) for name in measured),
    )
    return Row(cells=cells, runs=choice.run_ids or choice.runs.run_ids)


def _metric(choice: Choice, name: str, reason: str) -> Cell:
    mean = choice.mean(name)
    return scaled_cell(mean, reason=reason) if name.endswith("_ppl") else interval_cell(mean, 4, reason=reason)


def why_missing(choice: Choice) -> str:
    """Return why an arm has no number of a kind that its runs should have."""
    if not choice.runs.records:
        return "no run in this set"
    if not choice.chosen:
        return f"all of its {numbers.plural(choice.diverged, 'run')} diverged"
    return numbers.MISSING


def _flops(choice: Choice, reason: str) -> Cell:
    value = choice.first("train_flops")
    return missing(reason) if value is None else plain(numbers.powers_of_ten(value), value)


def rate_cell(choice: Choice, reason: str) -> Cell:
    """Return the chosen learning rate, with how many were tried."""
    if choice.rate is None:
        return missing(reason)
    notes = [numbers.plural(choice.trials, "rate") + " tried"]
    notes += ["edge of the grid"] if choice.edge else []
    notes += [f"{choice.diverged} diverged"] if choice.diverged else []
    return plain(f"{numbers.log2_rate(choice.rate)} ({', '.join(notes)})", 2**choice.rate)
