"""An arm of a comparison: the learning rate it chose, and its mean metrics over seeds at that rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gdnbench.report.statistics import Interval, t_interval
from gdnbench.report.study import ArmRuns, finished, log2_lr, seed_of, width_of
from gdnbench.results import Record

METRIC = "val_loss"
SPEED = "tokens_per_s"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The runs of an arm at the width and learning rate that it is shown at.

    Attributes:
        runs: all runs of the arm.
        width: width shown; None where there is no run.
        rate: log2 of the chosen rate; None where no run finished.
        chosen: finished runs at that rate, by seed.
        trials: learning rates tried at that width, with those that diverged.
        edge: whether the chosen rate is the lowest or highest of several tried.
        diverged: runs at that width that diverged.
    """

    runs: ArmRuns
    width: int | None
    rate: float | None
    chosen: tuple[Record, ...]
    trials: int
    edge: bool
    diverged: int

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Run ids of the chosen runs."""
        return tuple(record.run_id for record in self.chosen)

    @property
    def at_once(self) -> tuple[int, ...]:
        """How many runs shared the machine while the chosen ones ran: speeds compare where this is equal."""
        return tuple(sorted({record.at_once for record in self.chosen}))

    def by_seed(self, metric: str) -> dict[int, float]:
        """Return seed -> metric, of the chosen runs that have it."""
        values = {seed_of(record): record.metric(metric) for record in self.chosen}
        return {seed: value for seed, value in values.items() if value is not None}

    def mean(self, metric: str) -> Interval | None:
        """Return the metric's mean over seeds with its interval; None where no run has it."""
        return t_interval(self.by_seed(metric).values())

    def first(self, metric: str) -> float | None:
        """Return a metric that is equal for all seeds, such as a number of parameters."""
        return next(iter(self.by_seed(metric).values()), None)


def comparable(choices: Sequence[Choice], metric: str) -> dict[tuple[int, ...], list[Choice]]:
    """Return the arms that have a metric, those together whose values of it compare: speeds by who shared the machine.

    The keys are `Choice.at_once`, fewest first; of another metric than a speed there is one group, with an empty key.
    """
    groups: dict[tuple[int, ...], list[Choice]] = {}
    for choice in choices:
        if choice.by_seed(metric):
            groups.setdefault(choice.at_once if metric == SPEED else (), []).append(choice)
    return dict(sorted(groups.items()))


def choose(runs: ArmRuns, width: int | None = None) -> Choice:
    """Choose an arm's rate: the lowest mean validation loss among the rates with the most finished seeds.

    ``width``: None for the largest that has runs.
    """
    width = max(runs.widths(), default=None) if width is None else width
    at_width = [record for record in runs.records if width_of(record) == width]
    by_rate: dict[float, list[Record]] = {}
    for record in finished(at_width):
        if record.metric(METRIC) is not None:
            by_rate.setdefault(log2_lr(record), []).append(record)
    tried = sorted({log2_lr(record) for record in at_width})
    rate = _best_rate(by_rate)
    chosen = sorted(by_rate.get(rate, []), key=seed_of) if rate is not None else []
    return Choice(
        runs=runs,
        width=width,
        rate=rate,
        chosen=tuple(chosen),
        trials=len(tried),
        edge=len(tried) > 1 and rate in (tried[0], tried[-1]),
        diverged=sum(record.outcome == "diverged" for record in at_width),
    )


def _best_rate(by_rate: Mapping[float, list[Record]]) -> float | None:
    if not by_rate:
        return None
    most = max(len(records) for records in by_rate.values())
    full = {rate: records for rate, records in by_rate.items() if len(records) == most}
    return min(full, key=lambda rate: sum(record.metrics[METRIC]["value"] for record in full[rate]) / most)
