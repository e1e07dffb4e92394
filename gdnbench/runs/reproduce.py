"""Running all of a preset that is missing, several runs at once, in whatever order their dependencies allow."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

from gdnbench.errors import GdnbenchError
from gdnbench.plan import estimate
from gdnbench.plan.expand import Plan, expand
from gdnbench.plan.spec import RunSpec
from gdnbench.presets import Preset
from gdnbench.results import Record, Store
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
    """What a reproduction did: ids of new records, and of runs that failed with their reasons."""

    stored: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def loss_of(record: Record) -> float:
    """Return the loss by which a plan chooses: infinite for a run that diverged or has none."""
    loss = record.metric("val_loss")
    return math.inf if loss is None or record.outcome == "diverged" else loss


def reproduce(preset: Preset, store: Store, settings: Settings, *, workers: int, view: View) -> Summary:
    """Run every run of the preset that the store lacks, and those that follow from their losses.

    Raises:
        GdnbenchError: a run was refused for a reason the user can mend; the others were stopped and saved.
        KeyboardInterrupt: asked to stop; all runs were saved.
    """
    return _Reproduction(preset, store, Pool(workers, settings), view).run()


class _Reproduction:
    """The state of `reproduce`: what is finished, what is running, what must wait."""

    def __init__(self, preset: Preset, store: Store, pool: Pool, view: View):
        self.preset, self.store, self.pool, self.view = preset, store, pool, view
        self.losses = {record.run_id: loss_of(record) for record in store.records()}
        self.summary = Summary()
        self.deferred: dict[str, float] = {}
        self.flops: dict[str, float] = {}
        self._make_plan()
        self.view.planned(self.plan, set(self.losses))
        for line in store.damaged:
            view.say(line)

    def run(self) -> Summary:
        """Work until nothing is missing."""
        try:
            while self._assign() or self.pool.running or self.deferred:
                for event in self.pool.events(timeout=0.5):
                    self._handle(*event)
        finally:
            self.pool.stop()
        return self.summary

    def _assign(self) -> bool:
        """Give runs to idle workers; return whether any was given."""
        given = False
        if len(self.pool.running) >= self.pool.size:
            return given
        for spec in self._ready():
            if len(self.pool.running) >= self._places(spec):
                break
            self.pool.start(spec, {"workers": self._places(spec)})
            given = True
        return given

    def _know(self, record: Record) -> None:
        """Take in a stored record; the plan may grow by it."""
        self.losses[record.run_id] = loss_of(record)
        if record.kind == "train":
            self._make_plan()
        self.view.planned(self.plan, set(self.losses))

    def _make_plan(self) -> None:
        """Make the plan by what is known, the costliest runs first: the short ones then fill the gaps at the end."""
        self.plan = expand(self.preset, self.losses)
        for spec in self.plan.runs:
            if spec.run_id not in self.flops:
                self.flops[spec.run_id] = estimate.flops(spec)
        self.runs = sorted(self.plan.runs, key=lambda spec: self.flops[spec.run_id], reverse=True)

    def _ready(self) -> list[RunSpec]:
        """Return the runs that could start now, in order; generation is timed after all else, alone."""
        running = {spec.run_id for spec in self.pool.running}
        now = time.monotonic()
        self.deferred = {run_id: until for run_id, until in self.deferred.items() if until > now}
        gone = self.losses.keys() | running | self.summary.failed.keys()
        missing = [spec for spec in self.runs if spec.run_id not in gone]
        waiting = [spec for spec in missing if spec.kind != "decode"]
        if not waiting and all(spec.kind == "decode" for spec in self.pool.running):
            waiting = missing
        return [spec for spec in waiting if spec.run_id not in self.deferred]

    def _places(self, spec: RunSpec) -> int:
        return 1 if spec.kind == "decode" else self.pool.size

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
        elif kind == "refused":
            raise GdnbenchError(message)
        elif kind == "failed":
            self.summary.failed[subject] = message
            self.view.say(f"{subject}: failed: {message}")
