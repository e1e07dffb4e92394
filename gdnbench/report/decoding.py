"""Generation of one arm: speed, latency and state over context."""

from dataclasses import dataclass

from gdnbench.report.statistics import Interval, t_interval
from gdnbench.report.study import ArmRuns, finished, seed_of
from gdnbench.results import Record


@dataclass(frozen=True, kw_only=True)
class DecodePoint:
    """An arm at one context length and batch.

    Attributes:
        context: prompt length in tokens.
        batch: sequences at a time.
        records: the runs, one a seed.
    """

    context: int
    batch: int
    records: tuple[Record, ...]

    def mean(self, metric: str) -> Interval | None:
        """Return a metric's mean over the runs; None where none has it."""
        values = [record.metric(metric) for record in self.records]
        return t_interval(value for value in values if value is not None)

    def by_seed(self, metric: str) -> dict[int, float]:
        """Return seed -> metric."""
        values = {seed_of(record): record.metric(metric) for record in self.records}
        return {seed: value for seed, value in values.items() if value is not None}


def points(runs: ArmRuns) -> list[DecodePoint]:
    """Return an arm's points by context, at its largest width."""
    width = max(runs.widths(), default=None)
    places: dict[tuple[int, int], list[Record]] = {}
    for record in finished(runs.records):
        decode = record.spec["decode"]
        if decode is not None and record.spec["model"]["width"] == width:
            places.setdefault((decode["context"], decode["batch_size"]), []).append(record)
    return [
        DecodePoint(context=context, batch=batch, records=tuple(records))
        for (context, batch), records in sorted(places.items())
    ]
