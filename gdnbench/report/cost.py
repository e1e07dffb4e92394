"""What an arm of a comparison took: its search for a learning rate, its final runs, and how fast they were."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gdnbench.peak import mfu
from gdnbench.presets.schema import Experiment
from gdnbench.report.comparing import METRIC, Choice
from gdnbench.report.statistics import Interval, paired_difference, t_interval
from gdnbench.report.study import finished, log2_lr, seed_of, width_of
from gdnbench.results import Record


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Runs with what they took together; ``device_hours`` by the share of the machine that each had."""

    records: tuple[Record, ...]

    @property
    def tokens(self) -> float:
        """Training tokens."""
        return sum(record.metric("train_tokens") or 0.0 for record in self.records)

    @property
    def flops(self) -> float:
        """Training FLOPs by the models' formulas."""
        return sum(record.metric("train_flops") or 0.0 for record in self.records)

    @property
    def device_hours(self) -> float:
        """Hours of the machine: a run that shared it with others counts by its share."""
        return sum(record.duration_s / record.at_once for record in self.records) / 3600

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Run ids."""
        return tuple(record.run_id for record in self.records)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """An arm's cost at the width it is shown at.

    Attributes:
        choice: the arm.
        search: the runs of the seed that tried most rates, one a rate, diverged ones included.
        final: the finished runs at the chosen rate, one a seed; the first of them is a run of the search, too.
        transferred: log2 of the rate that a smaller width had found, by the preset; None where it names none.
        regret: loss at the transferred rate minus loss at the chosen one, over the seeds that ran both, in nats.
    """

    choice: Choice
    search: Spent
    final: Spent
    transferred: float | None
    regret: Interval | None

    def mfu(self) -> Interval | None:
        """Return model FLOPs over the device's peak, over the final runs; None for a device of unknown peak."""
        return t_interval(share for record in self.final.records if (share := _mfu(record)) is not None)


def costs(experiment: Experiment, choices: Sequence[Choice]) -> list[Cost]:
    """Return the cost of each arm that has runs."""
    named = {arm.name: arm.transferred_lr for arm in experiment.arms}
    return [cost(choice, named.get(choice.runs.arm)) for choice in choices if choice.runs.records]


def cost(choice: Choice, transferred: float | None = None) -> Cost:
    """Return an arm's cost; ``transferred`` is the log2 of a rate that was found elsewhere."""
    at_width = [record for record in choice.runs.records if width_of(record) == choice.width]
    return Cost(
        choice=choice,
        search=search_runs(at_width),
        final=Spent(records=choice.chosen),
        transferred=transferred,
        regret=_regret(choice, at_width, transferred),
    )


def search_runs(records: Sequence[Record]) -> Spent:
    """Return the runs, of one arm and width, of the seed that tried most rates."""
    tried = Counter(seed_of(record) for record in records)
    seed = max(sorted(tried), key=lambda seed: tried[seed], default=None)
    return Spent(records=tuple(sorted((r for r in records if seed_of(r) == seed), key=log2_lr)))


def _regret(choice: Choice, at_width: Sequence[Record], transferred: float | None) -> Interval | None:
    if transferred is None:
        return None
    there = {seed_of(r): r.metric(METRIC) for r in finished(at_width) if abs(log2_lr(r) - transferred) < 1e-3}
    known = {seed: loss for seed, loss in there.items() if loss is not None}
    return paired_difference(known, choice.by_seed(METRIC))


def _mfu(record: Record) -> float | None:
    flops, speed = record.metric("flops_per_token"), record.metric("tokens_per_s")
    if flops is None or speed is None:
        return None
    return mfu(flops, speed, str(record.environment.get("device")))
