"""Running all of a preset that is missing, several runs at once, in whatever order their dependencies allow."""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gdnbench.errors import GdnbenchError
from gdnbench.plan.estimate import at_once
from gdnbench.plan.expand import Plan, Planner
from gdnbench.plan.order import importance
from gdnbench.plan.spec import RunSpec
from gdnbench.presets import Preset
from gdnbench.results import Record, Store
from gdnbench.runs import origins
from gdnbench.runs.limit import TimeLimit
from gdnbench.runs.pool import Pool
from gdnbench.runs.progress import Beat
from gdnbench.runs.worker import Settings

BUSY_SECONDS = 1.0  # before a run that another process holds is tried again


class View:
    """What a reproduction shows, as a context manager around it; this one shows nothing."""

    def __enter__(self) -> "View":
        """Begin to show."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the screen as it should stay."""

    def planned(self, plan: Plan, finished: set[str]) -> None:
        """The plan was made or grew."""

    def beat(self, beat: Beat) -> None:
        """A run went on."""

    def ended(self, record: Record) -> None:
        """A run was stored."""

    def say(self, line: str) -> None:
        """Something that a person should read."""


@dataclass
class Summary:
    """What a reproduction did.

    Attributes:
        stored: ids of new records.
        failed: runs that failed, with their reasons.
        left: runs that are missing at the end, those included that are only known to follow.
        left_seconds: how long those are expected to take, as many at once as now.
    """

    stored: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: int = 0
    left_seconds: float = 0.0


def loss_of(record: Record) -> float:
    """Return the loss by which a plan chooses: infinite for a run that diverged or has none."""
    loss = record.metric("val_loss")
    return math.inf if loss is None or record.outcome == "diverged" else loss


def reproduce(
    preset: Preset,
    store: Store,
    settings: Settings,
    *,
    workers: int,
    view: View,
    expected: Callable[[RunSpec], float],
    limit: TimeLimit | None = None,
    only: Sequence[str] = (),
    on_trial: Sequence[str] = (),
) -> Summary:
    """Run every run of the preset that the store lacks, and those that follow from their losses.

    Args:
        preset: the study.
        store: where its runs are stored.
        settings: what the workers share.
        workers: how many runs at once.
        view: shown what happens.
        expected: seconds to expect of a run.
        limit: where given, runs go by importance and those in progress are saved when time is up.
        only: names of the experiments to run; all where none is given.
        on_trial: architectures whose refused runs have failed, while the others go on.

    Raises:
        GdnbenchError: a run was refused for a reason the user can mend; the others were stopped and saved.
        KeyboardInterrupt: asked to stop; all runs were saved.
    """
    return _Reproduction(preset, store, Pool(workers, settings), view, expected, limit, only, on_trial).run()


class _Reproduction:
    """The state of `reproduce`: what is finished, what is running, what must wait."""

    def __init__(
        self,
        preset: Preset,
        store: Store,
        pool: Pool,
        view: View,
        expected: Callable[[RunSpec], float],
        limit: TimeLimit | None,
        only: Sequence[str],
        on_trial: Sequence[str],
    ):
        self.preset, self.store, self.pool, self.view = preset, store, pool, view
        self.limit, self.only, self.on_trial = limit, frozenset(only), frozenset(on_trial)
        self._expected, self._seconds = expected, dict[str, float]()
        self.planner = Planner(preset)
        self.losses = {record.run_id: loss_of(record) for record in store.records()}
        self.summary = Summary()
        self.deferred: dict[str, float] = {}
        self._make_plan()
        self.view.planned(self.plan, set(self.losses))
        for line in store.damaged:
            view.say(line)

    def run(self) -> Summary:
        """Work until nothing is missing, or time is up."""
        try:
            while not self._time_is_up() and (self._assign() or self.pool.running or self.deferred):
                for event in self.pool.events(timeout=0.5):
                    self._handle(*event)
        finally:
            self.pool.stop()
        missing = self._missing()
        following = [entry for entry in self.plan.following if self._wanted(entry[0])]
        self.summary.left = len(missing) + sum(count for _, count in following)
        left = [*((spec, 1) for spec in missing), *following]
        self.summary.left_seconds = sum(self._cost(spec) / self._places(spec) * count for spec, count in left)
        return self.summary

    def _cost(self, spec: RunSpec) -> float:
        """Return the expected seconds of a run, worked out once."""
        if spec.run_id not in self._seconds:
            self._seconds[spec.run_id] = self._expected(spec)
        return self._seconds[spec.run_id]

    def _wanted(self, spec: RunSpec) -> bool:
        return not self.only or spec.experiment in self.only

    def _time_is_up(self) -> bool:
        return self.limit is not None and self.limit.left <= 0

    def _assign(self) -> bool:
        """Give runs to idle workers; return whether any was given."""
        if len(self.pool.running) >= self.pool.size:
            return False
        ready = [spec for spec in self._ready() if self.limit is None or self.limit.allows(self._cost(spec))]
        given = False
        while ready and len(self.pool.running) < self._places(ready[0]):
            _, level = next(itertools.groupby(ready, key=lambda spec: self._rank(spec)[:2]))
            spec = self.pool.suited([*level])
            self.pool.start(spec, {"workers": self._places(spec)})
            ready.remove(spec)
            given = True
        return given

    def _know(self, record: Record) -> None:
        """Take in a stored record; the plan may grow by it."""
        self.losses[record.run_id] = loss_of(record)
        if record.kind == "train":
            self._make_plan()
        self.view.planned(self.plan, set(self.losses))

    def _make_plan(self) -> None:
        """Make the plan by what is known, and put its runs in order."""
        self.plan = self.planner.plan(self.losses)
        self.runs = sorted(self.plan.runs, key=self._rank)
        missing = [spec for spec in self.runs if spec.run_id not in self.losses]
        self.origins = origins.needed(missing)
        for run_id in origins.lost(self.store, self.origins):
            if self.store.take_back(run_id):
                del self.losses[run_id]
                self.view.say(f"{run_id}: run again, since other runs begin with its checkpoint, which is not here")
        origins.remove_unneeded(self.store, (s for s in self.runs if s.run_id in self.losses), self.origins)

    def _rank(self, spec: RunSpec) -> tuple[float, ...]:
        """Return a run's place in the order; runs whose first two numbers are equal may change places.

        By importance where the preset says what is, or time may run out; else the costliest first: the short ones then
        fill the gaps at the end.
        """
        if self.limit is not None or self.preset.order:
            return importance(self.preset, spec)
        return (-self._cost(spec),)

    def _missing(self) -> list[RunSpec]:
        """Return the runs that are not stored, those of the wanted experiments, in order."""
        wanted = (spec for spec in self.runs if self._wanted(spec))
        return [spec for spec in wanted if spec.run_id not in self.losses]

    def _ready(self) -> list[RunSpec]:
        """Return the runs that could start now, in order; generation is timed after all else, alone."""
        running = {spec.run_id for spec in self.pool.running}
        now = time.monotonic()
        self.deferred = {run_id: until for run_id, until in self.deferred.items() if until > now}
        gone = running | self.summary.failed.keys()
        missing = [spec for spec in self._missing() if spec.run_id not in gone]
        waiting = [spec for spec in missing if spec.kind != "decode"]
        if not waiting and all(spec.kind == "decode" for spec in self.pool.running):
            waiting = missing
        at_hand = origins.at_hand(self.store, self.origins)
        return [s for s in waiting if s.run_id not in self.deferred and (s.origin is None or s.origin in at_hand)]

    def _is_on_trial(self, run_id: str) -> bool:
        return any(spec.run_id == run_id and spec.model.arch in self.on_trial for spec in self.runs)

    def _places(self, spec: RunSpec) -> int:
        return at_once(spec, self.pool.size)

    def _handle(self, kind: str, subject: Any, message: str = "") -> None:
        if kind == "beat":
            self.view.beat(subject)
        elif kind == "done":
            record = self.store.read(subject)
            if record is None:
                raise GdnbenchError(f"{subject}: its record is gone or damaged right after it was written")
            self._know(record)
            self.summary.stored.append(subject)
            self.view.ended(record)
        elif kind == "busy":
            self.deferred[subject] = time.monotonic() + BUSY_SECONDS
            record = self.store.read(subject)
            if record is not None:
                self._know(record)
        elif kind == "refused" and not self._is_on_trial(subject):
            raise GdnbenchError(message)
        elif kind in ("failed", "refused"):
            self.summary.failed[subject] = message
            self.view.say(f"{subject}: failed: {message}")
