"""Fine-tuning: the best learning rate before it and in it, by arm and width."""

from collections.abc import Sequence

from gdnbench.report import numbers
from gdnbench.report.content import Cell, Row, Table, missing, plain
from gdnbench.report.statistics import paired_difference
from gdnbench.report.tables.cells import interval_cell
from gdnbench.report.tables.transfer import drift_cell
from gdnbench.report.transfer import Transfer, WidthCurve

Pairs = Sequence[tuple[str, Transfer]]
"""(experiment, fitted arm) pairs."""


def fine_tune_table(after: Pairs, before: Pairs) -> Table:
    """Return a row for each arm and width.

    Args:
        after: sweeps of fine-tuning.
        before: sweeps of training, in which an arm of the same name is looked for.
    """
    rows = []
    for experiment, arm in after:
        earlier = next((fitted for _, fitted in before if fitted.runs.arm == arm.runs.arm), None)
        rows += [_row(experiment, arm, curve, earlier) for curve in arm.curves.values()]
    return Table(
        name="fine_tune",
        caption="Best learning rate in training and in fine-tuning",
        columns=(
            "experiment",
            "arm",
            "width",
            "optimum in training (log2)",
            "optimum in fine-tuning (log2)",
            "second minus first (octaves)",
            "loss at it (nat/token)",
            "drift over width in fine-tuning (octaves per doubling)",
        ),
        rows=tuple(rows),
        wide=(7,),
        note=(
            "Optima as in the tables above. In training: the sweep of this set whose arm has the same name, where it "
            "has this width. The difference is paired over seeds."
        ),
    )


def _row(experiment: str, arm: Transfer, curve: WidthCurve, earlier: Transfer | None) -> Row:
    first = None if earlier is None else earlier.curves.get(curve.width)
    none = "no sweep of this arm at this width"
    loss = curve.optimum.loss
    return Row(
        cells=(
            plain(experiment),
            plain(arm.runs.arm),
            plain(str(curve.width), curve.width),
            missing(none) if first is None else interval_cell(first.interval, 2, reason="censored"),
            interval_cell(curve.interval, 2, reason=", ".join(curve.optimum.flags) or "censored"),
            missing(none) if first is None else _moved(first, curve),
            missing("no fit") if loss is None else plain(numbers.number(loss, 4), loss),
            drift_cell(arm, reason="; ".join(arm.flags) or numbers.MISSING),
        ),
        runs=tuple(record.run_id for record in arm.runs.at(curve.width)),
    )


def _moved(first: WidthCurve, second: WidthCurve) -> Cell:
    x, y = ({s: o.x for s, o in curve.by_seed.items() if o.x is not None} for curve in (first, second))
    return interval_cell(paired_difference(y, x), 2, reason="no seed with both optima")
