"""What a comparison cost: every arm's search for its rate beside its final runs, its speed and its memory."""

from collections.abc import Sequence

from gdnbench.presets.schema import Experiment
from gdnbench.report import numbers
from gdnbench.report.content import Cell, Row, Table, missing, plain
from gdnbench.report.cost import Cost, Spent
from gdnbench.report.tables.cells import count_cell, interval_cell, scaled_cell


def cost_table(experiment: Experiment, costs: Sequence[Cost]) -> Table:
    """Return one row an arm."""
    return Table(
        name=f"cost_{experiment.name}",
        caption=f"Cost and speed: {experiment.title or experiment.name}",
        columns=(
            "arm",
            "rates tried",
            "search: tokens",
            "search: hours of the machine",
            "final runs",
            "final: tokens",
            "final: hours of the machine",
            "search, in final runs' cost of one",
            "rate from a smaller width",
            "its loss minus the chosen one's (nat)",
            "runs at a time",
            "training tokens/s",
            "MFU",
            "peak memory (GiB)",
        ),
        rows=tuple(map(_row, costs)),
        note=(
            "Search: the runs of the one seed that tried every rate; its run at the chosen rate is a final run, too. "
            "Hours of the machine: of several runs at a time each counts its share. MFU: FLOPs by the model's formula "
            "over the data sheet's dense bfloat16 peak, where the device's is known; it and tokens/s are lower limits "
            "where several runs at a time shared the machine (how far below depends on what ran beside them), and do "
            "not compare with those of a run alone; gdnbench bench train times models alone. Mean ± half-width of the "
            "Student t 95% interval over n seeds, left out below 3 seeds."
        ),
    )


def _row(cost: Cost) -> Row:
    reason = (
        "all runs diverged" if cost.choice.diverged and not cost.final.records else "not measured in its final runs"
    )
    return Row(
        cells=(
            plain(cost.choice.runs.arm),
            plain(str(len(cost.search.records)), len(cost.search.records)),
            count_cell(cost.search.tokens),
            _hours(cost.search),
            plain(str(len(cost.final.records)), len(cost.final.records)),
            count_cell(cost.final.tokens),
            _hours(cost.final),
            _in_runs(cost, reason),
            plain("none named") if cost.transferred is None else plain(numbers.log2_rate(cost.transferred)),
            interval_cell(cost.regret, 4, reason="no run at it" if cost.transferred is not None else "none named"),
            _sharing(cost, reason),
            scaled_cell(cost.choice.mean("tokens_per_s"), reason=reason),
            _mfu_cell(cost),
            scaled_cell(cost.choice.mean("peak_gib"), reason=reason),
        ),
        runs=tuple(sorted({*cost.search.run_ids, *cost.final.run_ids})),
    )


def _hours(spent: Spent) -> Cell:
    return plain(numbers.significant(spent.device_hours), spent.device_hours)


def _in_runs(cost: Cost, reason: str) -> Cell:
    """Return how many final runs the search would have paid for, by FLOPs."""
    if not cost.final.flops:
        return missing(reason)
    ratio = cost.search.flops / (cost.final.flops / len(cost.final.records))
    return plain(numbers.number(ratio, 2), ratio)


def _sharing(cost: Cost, reason: str) -> Cell:
    """Return how many runs shared the machine in the final runs."""
    at_once = cost.choice.at_once
    if not at_once:
        return missing(reason)
    return plain(numbers.listed(list(map(str, at_once)), "or"), at_once[0] if len(at_once) == 1 else None)


def _mfu_cell(cost: Cost) -> Cell:
    share = cost.mfu()
    if share is None:
        return missing("peak of the device not known")
    return Cell(text=f"{100 * share.mean:.1f}% (n = {share.n})", value=share.mean, interval=share)
