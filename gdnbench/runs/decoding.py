"""Measuring generation within a budget: a process for each implementation of a model, every record stored at once."""

import functools
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gdnbench import environment
from gdnbench.measure.decoding import expected, grid
from gdnbench.measure.decoding.case import DecodeCase
from gdnbench.measure.decoding.fitting import why_too_large
from gdnbench.measure.kernels.calibration import calibrate, read_bandwidth
from gdnbench.measure.process import answers
from gdnbench.results import Record, Store
from gdnbench.runs import bench_left, decoding_process
from gdnbench.runs.bench import Book, Budget, Content, Outcome, Say, Start, open_store
from gdnbench.runs.decoding_process import question
from gdnbench.runs.decoding_record import measured_content, refused_content
from gdnbench.runs.decoding_summary import brief
from gdnbench.runs.sources import decoding_digest
from gdnbench.words import plural

LIMIT_S = 900.0  # of a process; libraries compile for minutes
COMMAND = bench_left.Command(name="decode", kind="decode", alike=("device", "impl", "size"))
WHAT = "speeds of generation"


def bench(
    cases: Sequence[DecodeCase],
    root: Path,
    set_name: str | None,
    *,
    mixers: Sequence[Path] = (),
    again: bool = False,
    budget_s: float | None = None,
    json_file: Path | None = None,
    say: Say,
) -> Outcome:
    """Measure the cases; nothing that was measured is lost to a later error.

    Args:
        cases: what is measured, all on one device.
        root: folder of the result sets.
        set_name: the set to store records in; None: no set.
        mixers: files of mixers that the cases name.
        again: measure what the set already holds, too.
        budget_s: seconds after which nothing more is begun that is not expected to end in time; what is running then
            is ended and left out.
        json_file: where all records are written as flat objects, after each case anew.
        say: told of progress, a line at a time.

    Raises:
        GdnbenchError: the set holds something else, or nothing could be timed.
    """
    device = cases[0].device
    store = open_store(root, set_name, COMMAND.kind, WHAT)
    book = Book(COMMAND.kind, store, device=device, again=again, json_file=json_file)
    Bench(book, mixers=mixers, budget_s=budget_s, say=say).run(cases)
    bench_left.leave(COMMAND, _left(_own_grid(device), store), store)
    return book.close()


def plan(cases: Sequence[DecodeCase], root: Path, set_name: str | None) -> bench_left.Left:
    """Return what of the cases is left to measure; leave in the set what is of the bench's own grid. Measure nothing.

    Raises:
        GdnbenchError: the set holds something else.
    """
    store = open_store(root, set_name, COMMAND.kind, WHAT)
    bench_left.leave(COMMAND, _left(_own_grid(cases[0].device), store), store)
    return _left(cases, store)


class Bench:
    """A run of the bench: what it needs to make records, and where they go."""

    def __init__(self, book: Book, *, mixers: Sequence[Path], budget_s: float | None, say: Say):
        self.book, self.say = book, say
        self.mixers = tuple(str(path.resolve()) for path in mixers)
        self.budget = Budget(budget_s)

    def run(self, cases: Sequence[DecodeCase]) -> None:
        """Measure what is not stored yet."""
        stored = [self._stored(case) for case in cases]
        self.book.take([record for record in stored if record is not None])
        todo = [case for case, record in zip(cases, stored, strict=True) if record is None]
        if not todo:
            return
        device = todo[0].device
        self.calibration, self.read_gb_s = calibrate(device), read_bandwidth(device)
        self.book.outcome.calibration = self.calibration
        self.memory = _memory(device)
        fitting = [case for case in todo if self._fits(case)]
        groups = [list(group) for _, group in itertools.groupby(fitting, key=lambda case: case.process)]
        self._announce(len(cases), len(todo), groups)
        for group in groups:
            self._measure_all(group)

    def _announce(self, asked: int, todo: int, groups: Sequence[Sequence[DecodeCase]]) -> None:
        minutes = sum(self._expected(group) for group in groups) / 60
        processes, large = plural(len(groups), "process"), todo - sum(map(len, groups))
        self.say(
            f"read {self.read_gb_s:,.0f} GB/s, matmul {self.calibration.matmul_tflop_s:,.2f} TFLOP/s; {todo} of "
            f"{asked} to measure, {large} of them too large; {processes}, about {minutes:.1f} min"
        )

    def _expected(self, group: Sequence[DecodeCase]) -> float:
        return expected.start_s(group[0]) + sum(map(self._expected_s, group))

    def _expected_s(self, case: DecodeCase) -> float:
        return expected.seconds(case, self.read_gb_s, self.calibration)

    def _measure_all(self, group: Sequence[DecodeCase]) -> None:
        """Measure cases of one implementation; a process that breaks is begun anew behind the case that broke it."""
        while affordable := self._affordable(group):
            done = self._ask(affordable)
            group = group[done:]
            if not done or self.budget.left() == 0.0:
                break
        self.book.outcome.left_out += [case.label for case in group]

    def _affordable(self, group: Sequence[DecodeCase]) -> list[DecodeCase]:
        """Return the first cases that are expected to end in time."""
        left = self.budget.left()
        if left is None or not group:
            return list(group)
        ends = itertools.accumulate(map(self._expected_s, group), initial=expected.start_s(group[0]))
        next(ends)
        return [case for case, end in zip(group, ends, strict=True) if end <= left]

    def _ask(self, cases: Sequence[DecodeCase]) -> int:
        """Measure cases in one process, and keep each when it is said; return how many got a record."""
        left, done, start = self.budget.left(), 0, Start()
        limit = LIMIT_S if left is None else min(LIMIT_S, left)
        asked = question(cases, mixers=self.mixers)
        for said in answers(decoding_process.__name__, asked, limit_s=limit, variables={}):
            if said.timed_out and self.budget.left() == 0.0:
                break
            case = cases[done]
            self._keep(case, self._content(case, said.value or {"broke": said.reason}), start)
            done, start = done + 1, Start()
        return done

    def _content(self, case: DecodeCase, said: Mapping[str, Any]) -> Content:
        for key in ("unavailable", "broke"):
            if key in said:
                return refused_content(case, said[key], broke=key == "broke" and case.ours)
        return measured_content(case, said, self.calibration, self.read_gb_s, self.memory)

    def _fits(self, case: DecodeCase) -> bool:
        """Say whether a case fits into the device's memory; one that does not has its record at once."""
        reason = why_too_large(case, self.memory)
        if reason:
            self._keep(case, refused_content(case, reason), Start())
        return not reason

    def _keep(self, case: DecodeCase, content: Content, start: Start) -> None:
        self.book.keep(
            case.run_id, case.spec(), content, start, digest=_digest(case), backends=content.data["what_ran"]
        )
        self.say(f"{case.label}: {brief(self.book.outcome.records[-1])} ({time.monotonic() - start.clock:.1f} s)")

    def _stored(self, case: DecodeCase) -> Record | None:
        """Return the stored record of a case if it was run like this, and still holds."""
        return self.book.stored(case.run_id, functools.partial(_holds, case))


@functools.cache
def _own_grid(device: str) -> tuple[DecodeCase, ...]:
    return tuple(grid.cases(grid.Asked(device=device)))


def _left(cases: Sequence[DecodeCase], store: Store | None) -> bench_left.Left:
    planned = [
        bench_left.Planned(
            run_id=case.run_id,
            spec=case.spec(),
            model=f"{case.model.arch} ({case.model.block}) {case.size}",
            holds=functools.partial(_holds, case),
        )
        for case in cases
    ]
    return bench_left.count(COMMAND, planned, store, device=cases[0].device)


def _holds(case: DecodeCase, record: Record) -> bool:
    """Say whether a case's record was made by these sources and run like this."""
    return record.source_digest == _digest(case) and record.spec == case.spec()


def _digest(case: DecodeCase) -> str:
    return decoding_digest(case.model if case.ours else None)


def _memory(device: str) -> int:
    """Return the bytes of a device, once the calibration gave back its own."""
    if device != "cuda":
        return int(environment.memory_gib() * 2**30)
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info()[0])
