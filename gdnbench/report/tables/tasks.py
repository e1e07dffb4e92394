"""Tasks: every arm at every width with its state and its accuracy; text at lengths beyond the training's."""

from gdnbench.report import numbers
from gdnbench.report.comparing import Choice
from gdnbench.report.content import Cell, Row, Table, missing, plain
from gdnbench.report.statistics import t_interval
from gdnbench.report.tables.cells import bytes_cell, count_cell, interval_cell, scaled_cell
from gdnbench.report.tables.comparison import rate_cell, why_missing
from gdnbench.report.tasks import LengthStudy, TaskStudy, perplexities

NO_RUN = "no run in this set"


def task_table(found: TaskStudy) -> Table:
    """Return a row for each arm and width."""
    rule = found.experiment.match
    pairs = found.axis == "pairs"
    cases = [numbers.plural(value, "pair") if pairs else f"length {value:,}" for value in found.cases]
    rows = [_row(found, arm.runs.arm, choice) for arm in found.arms for _, choice in sorted(arm.by_width.items())] + [
        _row(found, arm.runs.arm, None) for arm in found.arms if not arm.by_width
    ]
    by = "" if rule is None else f" in {rule.by.replace('flops', 'FLOPs').replace('_', ' ')}"
    return Table(
        name=f"task_{found.experiment.name}".replace("-", "_"),
        caption=found.title,
        columns=(
            "arm",
            "width",
            "parameters without embedding",
            "state a sequence",
            f"off the matched budget{by} (%)",
            "training FLOPs",
            "learning rate (of rates tried)",
            "validation loss (nat/answer)",
            *(f"accuracy, {case}" for case in cases),
        ),
        rows=tuple(rows),
        note=(
            "Each arm at its own best learning rate of those tried, by mean validation loss over seeds at the training "
            "length. Accuracy: share of right answers on test sequences, the same for every arm and seed. Mean ± "
            "half-width of the Student t 95% interval over n seeds, left out below 3 seeds. State: what one sequence "
            f"carries after {found.seq_len} tokens in float32; a Transformer's grows with every token."
        ),
    )


def _row(found: TaskStudy, arm: str, choice: Choice | None) -> Row:
    rule = found.experiment.match
    if choice is None:
        return Row(cells=(plain(arm), *[missing(NO_RUN)] * (7 + len(found.cases))))
    reason = why_missing(choice)
    deviation, flops = choice.first("match_deviation"), choice.first("train_flops")
    why = "nothing is matched" if rule is None else "not matched by design" if choice.chosen else reason
    return Row(
        cells=(
            plain(arm),
            plain(str(choice.width), choice.width),
            count_cell(choice.first("params_non_embedding"), reason=reason),
            bytes_cell(choice.first("state_bytes"), reason=reason),
            missing(why) if deviation is None else plain(numbers.number(100 * deviation, 1), 100 * deviation),
            missing(reason) if flops is None else plain(numbers.powers_of_ten(flops), flops),
            rate_cell(choice, reason),
            interval_cell(choice.mean("val_loss"), 4, reason=reason),
            *(_percent(choice, metric, reason) for metric in found.cases.values()),
        ),
        runs=choice.run_ids or choice.runs.run_ids,
    )


def _percent(choice: Choice, metric: str, reason: str) -> Cell:
    values = choice.by_seed(metric).values()
    return interval_cell(t_interval(100 * value for value in values), 1, unit="%", reason=reason)


def length_table(found: LengthStudy) -> Table:
    """Return a row an arm: perplexity a token of the same text in windows of each length."""
    titles = [
        f"perplexity a token in windows of {length:,} ({numbers.significant(length / found.seq_len)} x training)"
        for length in found.cases
    ]
    return Table(
        name=f"lengths_{found.experiment.name}".replace("-", "_"),
        caption=f"{found.experiment.title or found.experiment.name}: beyond the training length",
        columns=("arm", "width", "state a sequence at the training length", *titles),
        rows=tuple(_length_row(choice, found) for choice in found.choices),
        note=(
            "The same tokens of the same text for every length, arm and seed, cut into windows that are read without "
            "context before them. Perplexity is that of the model's own tokens, not of words. Mean ± half-width of the "
            "Student t 95% interval over n seeds, left out below 3 seeds."
        ),
    )


def _length_row(choice: Choice, found: LengthStudy) -> Row:
    reason = why_missing(choice)
    cells = (
        plain(choice.runs.arm),
        missing(reason) if choice.width is None else plain(str(choice.width), choice.width),
        bytes_cell(choice.first("state_bytes"), reason=reason),
        *(
            scaled_cell(t_interval(perplexities(choice, metric).values()), reason=reason)
            for metric in found.cases.values()
        ),
    )
    return Row(cells=cells, runs=choice.run_ids or choice.runs.run_ids)
