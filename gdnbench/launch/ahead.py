"""Looking ahead: what a preset runs, what of it is stored, and what the rest is expected to take."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdnbench.launch.choosing import Chosen, workers_of
from gdnbench.plan import estimate
from gdnbench.plan.budgets import counts
from gdnbench.plan.expand import Plan, expand
from gdnbench.plan.order import importance
from gdnbench.plan.spec import RunSpec
from gdnbench.plan.speed import Speeds, speeds
from gdnbench.results import Record, Store
from gdnbench.runs.limit import TimeLimit
from gdnbench.runs.reproduce import loss_of
from gdnbench.words import plural

HEAD = f"{'run':64} {'params':>13} {'non-emb':>13} {'MLP':>10} {'match':>7} {'seconds':>8} {'GiB':>6}"


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A plan with what it is expected to take.

    Attributes:
        plan: the plan by what is stored.
        runs: its runs of the wanted experiments, in the order in which they are worth most.
        following: runs that are only known to follow: about how many like which one.
        stored: ids of those that are stored.
        costs: by run id.
        workers: runs at once.
        rate_source: how the speed is known.
        damaged: what in the set could not be read, in words.
    """

    plan: Plan
    runs: tuple[RunSpec, ...]
    following: tuple[tuple[RunSpec, int], ...]
    stored: frozenset[str]
    costs: Mapping[str, estimate.Cost]
    workers: int
    rate_source: str
    damaged: tuple[str, ...] = ()

    def summary(self, limit: TimeLimit | None = None) -> list[str]:
        """Return the totals as lines, with how much of it a limit of time leaves room for."""
        later = sum(count for _, count in self.following)
        more = f", about {later} more once the first losses are known" if later else ""
        wall = self._wall(self.runs, self.following)
        peak = max((cost.peak_gib for cost in self.costs.values()), default=0.0) * self.workers
        all_of_it = _duration(wall)
        if self.plan.preset.device == "cuda":
            all_of_it += f" ({sum(row['seconds'] for row in self.left()) / 3600:,.1f} GPU-hours)"
        lines = [
            *self.damaged,
            f"{self.plan.preset.name}: {plural(len(self.runs), 'run')}{more}; {len(self.stored)} stored",
            f"expected: {all_of_it} with {self.workers} at once, up to {peak:.1f} GiB of memory ({self.rate_source})",
        ]
        if limit is not None and wall > 0:
            share = min(1.0, limit.seconds / wall)
            lines.append(f"stops after {_duration(limit.seconds)}, which is enough for about {share:.0%} of it")
        return lines

    def lines(self) -> list[str]:
        """Return every run with its realised sizes and costs, what each experiment takes, then the totals."""
        return [HEAD, *map(self._line, self.runs), *self._experiments(), *self.summary()]

    def left(self) -> list[dict[str, Any]]:
        """Return what is not stored: an experiment and arm a row, with its runs, those that follow, and seconds.

        Seconds are those of runs one after the other; on a GPU, of the GPU, which runs at once share.
        """
        shares = self.plan.preset.device == "cuda"
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        missing = [(spec, 1, "runs") for spec in self.runs if spec.run_id not in self.stored]
        for spec, count, kind in [*missing, *((spec, count, "following") for spec, count in self.following)]:
            empty = {"experiment": spec.experiment, "arm": spec.arm, "runs": 0, "following": 0, "seconds": 0.0}
            row = rows.setdefault((spec.experiment, spec.arm), empty)
            row[kind] += count
            seconds = self.costs[spec.run_id].seconds / (estimate.at_once(spec, self.workers) if shares else 1)
            row["seconds"] = round(row["seconds"] + count * seconds, 1)
        return list(rows.values())

    def _experiments(self) -> list[str]:
        """Return what each experiment takes, where there are several."""
        names = list(dict.fromkeys(spec.experiment for spec in self.runs))
        lines = []
        for name in names if len(names) > 1 else ():
            runs = [spec for spec in self.runs if spec.experiment == name]
            more = [(spec, count) for spec, count in self.following if spec.experiment == name]
            left = sum(spec.run_id not in self.stored for spec in runs)
            later = sum(count for _, count in more)
            text = f"{name}: {left} of {plural(len(runs), 'run')} to do"
            text += f", about {later} more to follow" if later else ""
            lines.append(f"{text}; {_duration(self._wall(runs, more))} with {self.workers} at once")
        return lines

    def _wall(self, runs: Iterable[RunSpec], following: Iterable[tuple[RunSpec, int]]) -> float:
        """Return the expected seconds from the first to the last of these runs that is not stored."""
        left = [*((spec, 1) for spec in runs if spec.run_id not in self.stored), *following]
        by_places: dict[int, list[float]] = {}
        for spec, count in left:
            places = estimate.at_once(spec, self.workers)
            by_places.setdefault(places, []).extend([self.costs[spec.run_id].seconds] * count)
        return sum(estimate.makespan(seconds, places) for places, seconds in by_places.items())

    def _line(self, spec: RunSpec) -> str:
        length = spec.training.seq_len if spec.training else 64
        sizes, cost = counts(spec.model, length), self.costs[spec.run_id]
        mark = "stored" if spec.run_id in self.stored else f"{cost.seconds:.1f}"
        match = f"{spec.matched.deviation:+.2%}" if spec.matched else ""
        widths = spec.model.mlp_width
        mlp = (
            "ratio"
            if widths is None
            else "/".join(map(str, dict.fromkeys(widths if isinstance(widths, tuple) else [widths])))
        )
        return (
            f"{spec.run_id:64} {sizes.params_total:>13,} {sizes.params_non_embedding:>13,} {mlp:>10} {match:>7} "
            f"{mark:>8} {cost.peak_gib:>6.1f}"
        )


def outlook(chosen: Chosen, root: Path, name: str, workers: int | None, only: Sequence[str] = ()) -> Outlook:
    """Look ahead: expand the plan by what is stored and estimate the rest; nothing is run.

    Args:
        chosen: the study.
        root: folder of the result sets.
        name: name of its set.
        workers: runs at once; None: as many as the machine takes.
        only: names of the wanted experiments; all where none is given.
    """
    preset, at_once = chosen.preset, workers_of(chosen, workers)
    store = Store(root, name)
    records = store.records()
    plan = expand(preset, {record.run_id: loss_of(record) for record in records})
    runs = [spec for spec in plan.runs if not only or spec.experiment in only]
    if preset.order:
        runs.sort(key=lambda spec: importance(preset, spec))
    known = known_speeds(root, records, preset.device)
    costs = {
        spec.run_id: estimate.Cost(seconds=estimate.seconds(spec, known, at_once), peak_gib=estimate.peak_gib(spec))
        for spec in runs
    }
    return Outlook(
        plan=plan,
        runs=tuple(runs),
        following=tuple(entry for entry in plan.following if entry[0].run_id in costs),
        stored=frozenset(record.run_id for record in records) & costs.keys(),
        costs=costs,
        workers=at_once,
        rate_source=known.told(at_once),
        damaged=tuple(store.damaged),
    )


def known_speeds(root: Path, records: Sequence[Record], device: str) -> Speeds:
    """Return what to expect of a device: from a set's own runs, else from those of the sets beside it, else a probe."""
    own = speeds(records, device)
    if own.measured:
        return own
    others = [path.parent.name for path in sorted(root.glob("*/runs"))]
    return speeds((record for name in others for record in Store(root, name).records()), device)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:,.1f} min" if seconds < 2 * 3600 else f"{seconds / 3600:,.1f} h"
