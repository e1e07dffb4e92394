"""Measuring training within a budget: one process after another, every record stored as soon as it is measured."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from gdnbench.configuration import from_mapping
from gdnbench.errors import GdnbenchError
from gdnbench.measure.kernels.calibration import calibrate
from gdnbench.measure.process import Answer, ask, empty_caches
from gdnbench.measure.training import grid
from gdnbench.measure.training.case import TrainingCase
from gdnbench.measure.training.stepping import Stepped
from gdnbench.results import Record, Store
from gdnbench.runs import bench_left, training_process
from gdnbench.runs.bench import Book, Budget, Content, Outcome, Say, Start, open_store
from gdnbench.runs.sources import training_digest
from gdnbench.runs.training_process import question
from gdnbench.runs.training_record import measured_content, refused_content
from gdnbench.runs.training_summary import brief

LIMIT_S = 900.0  # of a process; flash-linear-attention compiles for minutes
COMMAND = bench_left.Command(name="train", kind="train_throughput", alike=("device", "impl", "caches"))
WHAT = "training speeds"


def bench(
    cases: Sequence[TrainingCase],
    root: Path,
    set_name: str | None,
    *,
    profile: bool = False,
    mixers: Sequence[Path] = (),
    again: bool = False,
    budget_s: float | None = None,
    json_file: Path | None = None,
    say: Say,
) -> Outcome:
    """Measure the cases, each in a process of its own; nothing that was measured is lost to a later error.

    Args:
        cases: what is measured, all on one device.
        root: folder of the result sets.
        set_name: the set to store records in; None: no set.
        profile: time the components of the step, too.
        mixers: files of mixers that the cases name.
        again: measure what the set already holds, too.
        budget_s: seconds after which nothing more is begun that is not expected to end in time; what is running then
            is ended and left out.
        json_file: where all records are written as flat objects, after each case anew.
        say: told of progress, a line at a time.

    Raises:
        GdnbenchError: the set holds something else, a profile is asked for on a CPU, or nothing could be timed.
    """
    if profile:
        check_profile(cases[0].device)
    device, store = cases[0].device, open_store(root, set_name, COMMAND.kind, WHAT)
    book = Book(COMMAND.kind, store, device=device, again=again, json_file=json_file)
    Bench(book, profile=profile, mixers=mixers, budget_s=budget_s, say=say).run(cases)
    _leave(store, device, profile)
    return book.close()


def plan(cases: Sequence[TrainingCase], root: Path, set_name: str | None, *, profile: bool = False) -> bench_left.Left:
    """Return what of the cases is left to measure; leave in the set what is of the bench's own grid. Measure nothing.

    Raises:
        GdnbenchError: the set holds something else, or a profile is asked for on a CPU.
    """
    device, store = cases[0].device, open_store(root, set_name, COMMAND.kind, WHAT)
    if profile:
        check_profile(device)
    _leave(store, device, profile)
    return _left(cases, store, profile)


def check_profile(device: str) -> None:
    """Raise where there are no GPU kernels to profile."""
    if device != "cuda":
        raise GdnbenchError("--profile: the parts of a step are told by its GPU kernels, so it needs --device cuda")


class Bench:
    """A run of the bench: what it needs to make records, and where they go."""

    def __init__(self, book: Book, *, profile: bool, mixers: Sequence[Path], budget_s: float | None, say: Say):
        self.book, self.profile, self.say = book, profile, say
        self.mixers = tuple(str(path.resolve()) for path in mixers)
        self.budget = Budget(budget_s)

    def run(self, cases: Sequence[TrainingCase]) -> None:
        """Measure what is not stored yet."""
        stored = [self._stored(case) for case in cases]
        self.book.take([record for record in stored if record is not None])
        todo = [case for case, record in zip(cases, stored) if record is None]
        if not todo:
            return
        device = todo[0].device
        self.calibration = self.book.outcome.calibration = calibrate(device)
        _free(device)
        self.say(
            f"copy {self.calibration.copy_gb_s:,.0f} GB/s, matmul {self.calibration.matmul_tflop_s:,.2f} TFLOP/s; "
            f"{len(todo)} of {len(cases)} to measure"
        )
        for case in todo:
            if not self.budget.allows(case.impl) or not self._measure(case):
                self.book.outcome.left_out.append(case.label)

    def _measure(self, case: TrainingCase) -> bool:
        """Measure and keep a case; return whether the budget lasted."""
        start = Start()
        with _caches(case) as variables:
            said = self._ask(case, variables, steps=case.steps)
            if said.timed_out and self.budget.left() == 0.0:
                return False
            content = self._content(case, said, variables)
        self.budget.took(case.impl, start.clock)
        self.book.keep(
            case.run_id, case.spec(), content, start, digest=_digest(case), backends=content.data["what_ran"]
        )
        self.say(f"{case.label}: {brief(self.book.outcome.records[-1])} ({time.monotonic() - start.clock:.0f} s)")
        return True

    def _content(self, case: TrainingCase, said: Answer, variables: Mapping[str, str]) -> Content:
        value = said.value or {"unavailable": said.reason}
        if "measured" in value:
            found = from_mapping(Stepped, value["measured"])
            device = str(self.book.environment["device"])
            return measured_content(case, found, said.started, self.calibration, device)
        if "out_of_memory" in value:
            return refused_content(case, self._fitting(case, variables))
        return refused_content(case, value["unavailable"])

    def _fitting(self, case: TrainingCase, variables: Mapping[str, str]) -> str:
        """Say that a batch is too large, and which half, quarter, ... of it fits, by trying."""
        text = f"out of GPU memory at batch {case.batch} x {case.seq_len}"
        batch = case.batch // 2
        while batch:
            smaller = dataclasses.replace(case, batch=batch)
            said = self._ask(smaller, variables, steps=0)
            if said.value is None or "unavailable" in said.value:
                return f"{text}; a smaller one was not found: {said.reason or said.value}"
            if "measured" in said.value:
                peak = said.value["measured"]["peak_gib"]
                return f"{text}; --batch {batch} fits, with a peak of {peak:.1f} GiB"
            batch //= 2
        return f"{text}, and at every smaller batch; a shorter --seq-len or a smaller --width or --depth would fit"

    def _ask(self, case: TrainingCase, variables: Mapping[str, str], *, steps: int) -> Answer:
        left = self.budget.left()
        asked = question(case, steps=steps, profile=self.profile, mixers=self.mixers)
        limit = LIMIT_S if left is None else min(LIMIT_S, left)
        return ask(training_process.__name__, asked, limit_s=limit, variables=variables)

    def _stored(self, case: TrainingCase) -> Record | None:
        """Return the stored record of a case if it was run like this, still holds, and has the profile asked for."""
        return self.book.stored(case.run_id, functools.partial(_holds, case, self.profile))


@functools.cache
def _own_grid(device: str) -> tuple[TrainingCase, ...]:
    return tuple(grid.cases(device=device))


def _leave(store: Store | None, device: str, profile: bool) -> None:
    """Store what is left of the bench's own grid, with profiles where the set has some of this device."""
    records = [] if store is None else store.records()
    profiled = any(record.data.get("profiled") and record.spec["device"] == device for record in records)
    bench_left.leave(COMMAND, _left(_own_grid(device), store, profile or profiled), store)


def _left(cases: Sequence[TrainingCase], store: Store | None, profile: bool) -> bench_left.Left:
    planned = [
        bench_left.Planned(
            run_id=case.run_id,
            spec=case.spec(),
            model=f"{case.model.arch} ({case.model.block})",
            holds=functools.partial(_holds, case, profile),
        )
        for case in cases
    ]
    option = "--profile" if profile else ""
    return bench_left.count(COMMAND, planned, store, device=cases[0].device, option=option)


def _holds(case: TrainingCase, profile: bool, record: Record) -> bool:
    """Say whether a case's record was made by these sources, run like this, and has the profile asked for."""
    if record.source_digest != _digest(case) or record.spec != case.spec():
        return False
    return not (profile and record.metric("step_ms") and not record.data["profiled"])


def _caches(case: TrainingCase) -> contextlib.AbstractContextManager[Mapping[str, str]]:
    return empty_caches() if case.caches == "cold" else contextlib.nullcontext({})


def _digest(case: TrainingCase) -> str:
    return training_digest(case.model if case.ours else None)


def _free(device: str) -> None:
    """Give back what the calibration took: the GPU is for the processes that follow."""
    if device == "cuda":
        torch.cuda.empty_cache()
