"""The best learning rate over the length of training, from runs of several lengths that branch off from one trunk."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from gdnbench.report.statistics import Interval, log_width_slopes, t_interval
from gdnbench.report.study import ArmRuns, steps_of
from gdnbench.report.transfer import Transfer, analyse
from gdnbench.results import Record


@dataclass(frozen=True, kw_only=True)
class Horizons:
    """An arm's optimum over width at each length, and over length at each width.

    Attributes:
        runs: the arm's branches.
        by_tokens: training tokens -> transfer over width of the branches of that length.
        slopes: width -> interval over seeds of the slope of the optimum over log2 tokens: octaves per doubling of the
            length; None where too few optima lie inside their grids.
    """

    runs: ArmRuns
    by_tokens: Mapping[int, Transfer]
    slopes: Mapping[int, Interval | None]


def horizons(runs: ArmRuns) -> Horizons:
    """Fit an arm's branches, each length by itself."""
    by_tokens = {tokens: analyse(_of_length(runs, tokens)) for tokens in sorted(set(map(_tokens, runs.records)))}
    slopes = {width: t_interval(log_width_slopes(_optima(by_tokens, width)).values()) for width in runs.widths()}
    return Horizons(runs=runs, by_tokens=by_tokens, slopes=slopes)


def _of_length(runs: ArmRuns, tokens: int) -> ArmRuns:
    records = tuple(record for record in runs.records if _tokens(record) == tokens)
    return dataclasses.replace(runs, records=records, shared=runs.shared & {record.run_id for record in records})


def _tokens(record: Record) -> int:
    """Return the tokens that a model has seen at the end of a run, its trunk's included."""
    training = record.spec["training"]
    return steps_of(record) * training["batch_size"] * training["seq_len"]


def _optima(by_tokens: Mapping[int, Transfer], width: int) -> dict[int, dict[int, float]]:
    """Return tokens -> seed -> optimum at a width."""
    curves = {tokens: fitted.curves[width] for tokens, fitted in by_tokens.items() if width in fitted.curves}
    return {t: {s: o.x for s, o in curve.by_seed.items() if o.x is not None} for t, curve in curves.items()}
