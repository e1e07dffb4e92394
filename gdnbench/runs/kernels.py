"""Timing kernels within a budget: block after block, every group of records stored as soon as it is measured."""

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gdnbench import environment
from gdnbench.errors import GdnbenchError
from gdnbench.files import write_text
from gdnbench.measure.kernels import first_call as processes
from gdnbench.measure.kernels.calibration import Calibration, calibrate
from gdnbench.measure.kernels.case import KernelCase
from gdnbench.measure.kernels.grid import Block, Options, blocks, without
from gdnbench.measure.kernels.measure import Measurement, Refusal, open_block
from gdnbench.results import Record, Store
from gdnbench.results.export import to_json
from gdnbench.runs.kernel_record import Content, first_call_content, measured_content
from gdnbench.runs.rows import Rows
from gdnbench.runs.sources import kernels_digest

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What a run of the bench did.

    Attributes:
        records: what was measured now, and what the set already held of what was asked for.
        left_out: groups for which the budget did not last, by label.
        calibration: the ceilings of this run; None where nothing was left to measure.
    """

    records: list[Record] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    calibration: Calibration | None = None

    @property
    def red(self) -> list[Record]:
        """The records whose correctness check is red, or whose case broke."""
        return [r for r in self.records if r.outcome == "failed" or r.data.get("correct") is False]


def bench(
    options: Options,
    root: Path,
    set_name: str | None,
    *,
    first_call: bool = False,
    again: bool = False,
    budget_s: float | None = None,
    json_file: Path | None = None,
    say: Say,
) -> Outcome:
    """Measure what is asked for and return its records; nothing that was measured is lost to a later error.

    Args:
        options: what is asked for.
        root: folder of the result sets.
        set_name: the set to store records in; None: no set.
        first_call: time first calls in processes of their own, and nothing else.
        again: measure what the set already holds, too.
        budget_s: seconds after which nothing more is begun that is not expected to end in time.
        json_file: where all records are written as flat objects, after each group anew.
        say: told of progress, a line at a time.

    Raises:
        GdnbenchError: the set holds runs of a preset, nothing could be timed, or the GPU fails.
    """
    store = None if set_name is None else Store(root, set_name)
    if store is not None and (store.folder / "presets").exists():
        raise GdnbenchError(f"--set {set_name}: {store.folder} holds runs of a preset; kernels need a set of their own")
    run = Bench(options, store, again=again, budget_s=budget_s, say=say)
    if json_file is not None:
        run.after = lambda outcome: write_text(json_file, to_json(outcome.records))
    outcome = run.run_first_calls() if first_call else run.run()
    run.after(outcome)
    if outcome.records and all(record.outcome == "unavailable" for record in outcome.records):
        reasons = dict.fromkeys(f"{record.spec['impl']}: {record.detail}" for record in outcome.records)
        raise GdnbenchError(f"nothing could be timed: {'; '.join(reasons)}")
    return outcome


class Budget:
    """Seconds that a run may take, and the longest that each kind of step took so far."""

    def __init__(self, seconds: float | None):
        self.end = None if seconds is None else time.monotonic() + seconds
        self.longest: dict[object, float] = {}

    def allows(self, kind: object) -> bool:
        """Say whether a step of a kind would end in time, if it takes as long as the longest of its kind."""
        return self.end is None or time.monotonic() + self.longest.get(kind, 0.0) <= self.end

    def took(self, kind: object, started: float) -> None:
        """Note that a step began at ``started`` (`time.monotonic`) and is over."""
        self.longest[kind] = max(self.longest.get(kind, 0.0), time.monotonic() - started)


class Bench:
    """A run of the bench: what it needs to make records, and where they go."""

    def __init__(self, options: Options, store: Store | None, *, again: bool, budget_s: float | None, say: Say):
        self.options, self.store, self.again, self.say = options, store, again, say
        self.budget = Budget(budget_s)
        self.outcome = Outcome()
        self.digest = kernels_digest()
        self.environment = environment.describe(options.device)
        self.after: Callable[[Outcome], None] = lambda outcome: None
        self.seen: set[object] = set()  # operations at a shape, for which kernels are compiled by now

    def run(self) -> Outcome:
        """Measure what is asked for and not stored yet."""
        todo = [self._missing(block) for block in blocks(self.options)]
        todo = [block for block in todo if block.groups]
        if not todo:
            return self.outcome
        self.calibration = self.outcome.calibration = calibrate(self.options.device)
        self.say(
            f"copy {self.calibration.copy_gb_s:,.0f} GB/s, matmul {self.calibration.matmul_tflop_s:,.2f} TFLOP/s; "
            f"{sum(len(block.groups) for block in todo)} groups to measure"
        )
        for place, block in enumerate(todo):
            if not self._block(block):
                self.outcome.left_out += [group.label for later in todo[place + 1 :] for group in later.groups]
                break
        return self.outcome

    def run_first_calls(self) -> Outcome:
        """Time the first call of every backend at every shape, each in a process of its own."""
        for shape in self.options.shapes:
            for name in self.options.backends:
                case = KernelCase(
                    op="gated_delta", impl=name, shape=shape, dtype=self.options.dtype, direction="forward_backward",
                    timing="first_call", qk_norm="given", gates="default", seed=self.options.seed,
                    device=self.options.device,
                )  # fmt: skip
                if (stored := self._stored(case, None)) is not None:
                    self.outcome.records.append(stored)
                    continue
                if not self.budget.allows(name):
                    self.outcome.left_out.append(f"{case.op} {case.shape} {name} first call")
                    continue
                started, clock = _now(), time.monotonic()
                found = processes.first_call(case)
                self.budget.took(name, clock)
                self._keep(case, first_call_content(found), started, clock)
        return self.outcome

    def _block(self, block: Block) -> bool:
        """Measure a block; return whether the budget lasted."""
        case = block.groups[0].cases[0]
        place = (case.op, case.shape)
        kind = ("check", case.op, place in self.seen)
        if not self.budget.allows(kind):
            self.outcome.left_out += [group.label for group in block.groups]
            return False
        with open_block(block, self.calibration, self.options.repeats) as run:
            clock = time.monotonic()
            run.prepare()
            self.budget.took(kind, clock)
            self.seen.add(place)
            for index, group in enumerate(block.groups):
                timing = ("time", group.cases[0].timing)
                if not self.budget.allows(timing):
                    self.outcome.left_out += [later.label for later in block.groups[index:]]
                    return False
                started, clock = _now(), time.monotonic()
                measured = run.measure(group)
                self.budget.took(timing, clock)
                self.say(f"{group.label}: {'; '.join(map(_brief, measured))}")
                for one in measured:
                    self._keep(one.case, measured_content(one, self.calibration), started, clock)
        return True

    def _missing(self, block: Block) -> Block:
        """Return a block without the groups that the set holds whole, whose records are taken over."""
        missing = []
        for group in block.groups:
            peer = None if group.peer is None else group.cases[group.peer]
            stored = [self._stored(case, peer) for case in group.cases]
            if all(stored):
                self.outcome.records += [record for record in stored if record is not None]
            else:
                missing.append(group)
        return without(block, missing)

    def _stored(self, case: KernelCase, peer: KernelCase | None) -> Record | None:
        """Return the stored record of a case if nothing that determines it has changed: sources, machine, libraries.

        A refusal or a red check is a result too: it would be the same again.
        """
        record = None if self.store is None or self.again else self.store.read(case.run_id)
        if record is None:
            return None
        compared = "" if peer is None or peer == case else peer.name
        same = (record.source_digest, record.data["peer"]) == (self.digest, compared)
        machine = all(record.environment.get(key) == self.environment[key] for key in ("device", "driver", "versions"))
        return record if same and machine else None

    def _keep(self, case: KernelCase, content: Content, started: str, clock: float) -> None:
        """Make the record of a case and store it where there is a set."""
        record = Record(
            run_id=case.run_id,
            set="" if self.store is None else self.store.name,
            kind="kernel",
            outcome=content.outcome,
            detail=content.detail,
            spec=case.spec(),
            metrics=content.metrics,
            rows_sha256="",
            source_digest=self.digest,
            data=content.data,
            environment={**self.environment, "backends": {case.op: case.impl}},
            started=started,
            duration_s=round(time.monotonic() - clock, 3),
            notes=content.notes,
        )
        if self.store is not None:
            with self.store.lease(case.run_id):
                rows = Rows(self.store.rows_path(case.run_id), 0)
                for index, ms in enumerate(content.samples):
                    rows.append({"type": "sample", "round": index, "ms": ms})
                rows.close()
                self.store.write(record)
        self.outcome.records.append(record)
        self.after(self.outcome)


def _brief(measured: Measurement) -> str:
    """Return a backend's result in a few words, for the eye of who waits."""
    name = measured.case.name
    if isinstance(measured.refusal, Refusal):
        return f"{name} {measured.refusal.outcome} ({measured.refusal.reason})"
    if measured.wrong and measured.check is not None:
        return f"{name} WRONG: {measured.check.problems()}"
    if measured.clocked is None:
        raise GdnbenchError(f"{measured.case.run_id}: neither a time nor a reason")
    ratio = f", {measured.ratio.value:.2f}x" if measured.ratio is not None else ""
    return f"{name} {measured.clocked.ms.median:.4g} ms{ratio}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
