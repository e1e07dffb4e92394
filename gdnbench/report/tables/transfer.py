"""Learning-rate transfer as tables: what each arm does over width, and every fitted optimum."""

import dataclasses
from collections.abc import Sequence

from gdnbench.report import numbers
from gdnbench.report.content import Cell, Row, Table, missing, plain
from gdnbench.report.statistics import paired_difference, position
from gdnbench.report.tables.cells import interval_cell
from gdnbench.report.transfer import Transfer, WidthCurve
from gdnbench.report.verdicts.transfer import DRIFT_BOUND

Sweeps = Sequence[tuple[str, Transfer]]
"""(experiment, fitted arm) pairs."""

WORDS = {
    "inside": ("stays", "good"),
    "below": ("falls with width", "bad"),
    "above": ("rises with width", "bad"),
    "undecided": ("undecided", "mixed"),
    "pending": ("pending", "missing"),
}


def drift_table(sweeps: Sweeps) -> Table:
    """Return one row an arm: drift of the best rate, regret of keeping it, and what qualifies them."""
    return Table(
        name="lr_transfer",
        caption="Learning-rate transfer over width",
        columns=(
            "experiment",
            "arm",
            "widths",
            "drift (octaves per doubling)",
            "best rate",
            "regret at the largest width (nat)",
            "the control's regret minus its own (nat)",
            "flags",
        ),
        rows=tuple(
            _drift_row(experiment, transfer, control_of(transfer, sweeps))
            for experiment, transfer in sweeps
            if len(transfer.curves) > 1
        ),
        note=(
            "Drift: slope of the fitted optimum, log2 of the learning rate, over log2 width; one slope a seed, Student "
            f"t 95% interval over seeds. It stays where the interval lies inside ±{DRIFT_BOUND}. Regret: loss at the "
            "rate that the other seeds choose at the base width, minus loss at the rate that they choose at the "
            "largest width, read from the seed held out; it can come out negative by chance. Control: the standard "
            "parametrization of the same experiment and architecture, paired over seeds. "
            "At the base width all parametrizations of an architecture are one model and share their runs."
        ),
        wide=(7,),
    )


def optima_table(sweeps: Sweeps) -> Table:
    """Return one row an arm and width: best grid rate, fitted optimum, tolerance, loss.

    Rows of runs that an arm only shares, at the base width, are for the files.
    """
    rows: dict[bool, list[Row]] = {False: [], True: []}
    for experiment, transfer in sweeps:
        for curve in transfer.curves.values():
            shared = transfer.runs.shared.issuperset(record.run_id for record in transfer.runs.at(curve.width))
            rows[shared].append(_optimum_row(experiment, transfer, curve))
    return Table(
        name="lr_optima",
        caption="Best learning rate by width",
        columns=(
            "experiment",
            "arm",
            "width",
            "best rate of the grid",
            "fitted optimum (log2)",
            "within 0.01 nat of it (log2)",
            "loss at it (nat/token)",
            "flags",
        ),
        rows=tuple(rows[False]),
        more=tuple(rows[True]),
        note=(
            "Quadratic in log2 of the rate through the best grid point and two neighbours on either side, one "
            "curvature for all seeds (a seed needs two runs there, the curvature a seed with three); n counts seeds "
            "with an optimum inside the grid. The loss is that of the seeds' mean curve; without a fit, at its best "
            "rate. Edge: the best rate is the first or last that has run. Censored: no run shows the minimum, as at an "
            "edge or where the quadratic has it outside the grid, and no number is given for it. At the base width all "
            "parametrizations are one model, whose runs are shown at the arm that they were made for."
        ),
        wide=(7,),
    )


def control_of(transfer: Transfer, sweeps: Sweeps) -> Transfer | None:
    """Return the arm under the table ``sp`` of the same experiment and architecture, or None where it is itself it."""
    experiments = {id(fitted): experiment for experiment, fitted in sweeps}
    for experiment, fitted in sweeps:
        same = experiment == experiments[id(transfer)] and fitted.runs.arch == transfer.runs.arch
        if same and fitted.runs.table == "sp":
            return None if fitted is transfer else fitted
    return None


def drift_cell(transfer: Transfer, *, reason: str) -> Cell:
    """Return an arm's drift in the colour of its place beside the bound."""
    cell = interval_cell(transfer.drift, 3, reason=reason)
    _, tone = WORDS[position(transfer.drift, -DRIFT_BOUND, DRIFT_BOUND)]
    return cell if transfer.drift is None else dataclasses.replace(cell, tone=tone)  # type: ignore[arg-type]


def _drift_row(experiment: str, transfer: Transfer, control: Transfer | None) -> Row:
    place = position(transfer.drift, -DRIFT_BOUND, DRIFT_BOUND)
    word, tone = WORDS[place]
    reason = "pending: see the flags" if transfer.flags else numbers.MISSING
    regret = interval_cell(
        transfer.regret, 4, reason="needs two seeds at two widths and a best rate inside the base width's grid"
    )
    if transfer.at_least and transfer.regret is not None:
        regret = Cell(text=f"at least {regret.text}", value=regret.value, interval=regret.interval)
    return Row(
        cells=(
            plain(experiment),
            plain(transfer.runs.arm),
            plain(", ".join(str(width) for width in transfer.curves)),
            interval_cell(transfer.drift, 3, reason=reason),
            Cell(text=word, tone=tone),  # type: ignore[arg-type]
            regret,
            _beside_control(transfer, control),
            plain("; ".join(transfer.flags)),
        ),
        runs=transfer.runs.run_ids,
    )


def _beside_control(transfer: Transfer, control: Transfer | None) -> Cell:
    if control is None:
        return plain("the control" if transfer.runs.table == "sp" else "no control here")
    own, other = ({seed: regret.nats for seed, regret in t.regrets.items()} for t in (transfer, control))
    cell = interval_cell(paired_difference(other, own), 4, reason="needs seeds that both have")
    return dataclasses.replace(cell, text=f"at least {cell.text}") if control.at_least and cell.interval else cell


def _optimum_row(experiment: str, transfer: Transfer, curve: WidthCurve) -> Row:
    optimum, runs = curve.optimum, tuple(record.run_id for record in transfer.runs.at(curve.width))
    flags: list[str] = list(optimum.flags)
    if curve.diverged:
        flags.append(f"{sum(map(len, curve.diverged.values()))} diverged")
    if transfer.runs.shared & set(runs):
        flags.append("runs shared with another arm: at the base width they are one model")
    tolerance = optimum.tolerance
    span = f"{numbers.number(tolerance[0], 2)} to {numbers.number(tolerance[1], 2)}" if tolerance else ""
    return Row(
        cells=(
            plain(experiment),
            plain(transfer.runs.arm),
            plain(str(curve.width), curve.width),
            missing("no run finished")
            if optimum.best is None
            else plain(numbers.log2_rate(optimum.best), optimum.best),
            interval_cell(curve.interval, 2, reason=", ".join(optimum.flags) or "censored"),
            plain(span) if span else missing("no fit"),
            missing("no fit") if optimum.loss is None else plain(numbers.number(optimum.loss, 4), optimum.loss),
            plain("; ".join(flags)),
        ),
        runs=runs,
    )
