"""Timing kernels within a budget: block after block, every group of records stored as soon as it is measured."""

import functools
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from gdnbench.errors import GdnbenchError
from gdnbench.measure.kernels import first_call as processes
from gdnbench.measure.kernels.calibration import calibrate
from gdnbench.measure.kernels.case import KernelCase
from gdnbench.measure.kernels.grid import Block, Options, blocks, chosen, without
from gdnbench.measure.kernels.measure import Measurement, Refusal, open_block
from gdnbench.results import Record, Store
from gdnbench.runs import bench_left
from gdnbench.runs.bench import Book, Budget, Content, Outcome, Say, Start, open_store
from gdnbench.runs.kernel_record import first_call_content, measured_content
from gdnbench.runs.sources import kernels_digest
from gdnbench.words import plural

COMMAND = bench_left.Command(name="kernels", kind="kernel", alike=("device", "op", "impl", "timing"))


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
        GdnbenchError: the set holds something else, nothing could be timed, or the GPU fails.
    """
    store = open_store(root, set_name, COMMAND.kind, "kernels")
    book = Book(COMMAND.kind, store, device=options.device, again=again, json_file=json_file)
    run = Bench(options, book, budget_s=budget_s, say=say)
    if first_call:
        run.run_first_calls()
    else:
        run.run()
    bench_left.leave(COMMAND, _left(chosen(device=options.device), store), store)
    return book.close()


def plan(options: Options, root: Path, set_name: str | None, *, first_call: bool = False) -> bench_left.Left:
    """Return what is left to measure of what is asked for; leave in the set what is of the bench's own grid, which has
    no first calls. Measure nothing.

    Raises:
        GdnbenchError: the set holds something else.
    """
    store = open_store(root, set_name, COMMAND.kind, "kernels")
    bench_left.leave(COMMAND, _left(chosen(device=options.device), store), store)
    return _left(options, store, first_call)


class Bench:
    """A run of the bench: what it needs to make records, and where they go."""

    def __init__(self, options: Options, book: Book, *, budget_s: float | None, say: Say):
        self.options, self.book, self.say = options, book, say
        self.outcome = book.outcome
        self.budget = Budget(budget_s)
        self.digest = kernels_digest()
        self.seen: set[object] = set()  # operations at a shape, for which kernels are compiled by now

    def run(self) -> None:
        """Measure what is asked for and not stored yet."""
        todo = [self._missing(block) for block in blocks(self.options)]
        todo = [block for block in todo if block.groups]
        if not todo:
            return
        self.calibration = self.outcome.calibration = calibrate(self.options.device)
        self.say(
            f"copy {self.calibration.copy_gb_s:,.0f} GB/s, matmul {self.calibration.matmul_tflop_s:,.2f} TFLOP/s; "
            f"{plural(sum(len(block.groups) for block in todo), 'group')} to measure"
        )
        for place, block in enumerate(todo):
            try:
                lasted = self._block(block)
            except RuntimeError as error:  # PyTorch has no type of its own for a CPU without memory
                if "allocate memory" not in str(error) and not isinstance(error, torch.OutOfMemoryError):
                    raise
                label = block.groups[0].label
                raise GdnbenchError(f"{label}: out of memory; smaller --shapes take less") from error
            if not lasted:
                self.outcome.left_out += [group.label for later in todo[place + 1 :] for group in later.groups]
                break

    def run_first_calls(self) -> None:
        """Time the first call of every backend at every shape, each in a process of its own."""
        for case in _first_calls(self.options):
            if (stored := self._stored(case, None)) is not None:
                self.book.take([stored])
                continue
            if not self.budget.allows(case.impl):
                self.outcome.left_out.append(f"{case.op} {case.shape} {case.impl} first call")
                continue
            start = Start()
            found = processes.first_call(case)
            self.budget.took(case.impl, start.clock)
            self._keep(case, first_call_content(found), start)

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
                start = Start()
                measured = run.measure(group)
                self.budget.took(timing, start.clock)
                self.say(f"{group.label}: {'; '.join(map(_brief, measured))}")
                for one in measured:
                    self._keep(one.case, measured_content(one, self.calibration), start)
        return True

    def _missing(self, block: Block) -> Block:
        """Return a block without the groups that the set holds whole, whose records are taken over."""
        missing = []
        for group in block.groups:
            peer = None if group.peer is None else group.cases[group.peer]
            stored = [self._stored(case, peer) for case in group.cases]
            if all(stored):
                self.book.take([record for record in stored if record is not None])
            else:
                missing.append(group)
        return without(block, missing)

    def _stored(self, case: KernelCase, peer: KernelCase | None) -> Record | None:
        """Return the stored record of a case if it still holds, and was compared with the peer that is asked for."""
        return self.book.stored(case.run_id, functools.partial(_holds, case, peer))

    def _keep(self, case: KernelCase, content: Content, start: Start) -> None:
        self.book.keep(case.run_id, case.spec(), content, start, digest=self.digest, backends={case.op: case.impl})


def _first_calls(options: Options) -> list[KernelCase]:
    return [
        KernelCase(
            op="gated_delta", impl=name, shape=shape, dtype=options.dtype, direction="forward_backward",
            timing="first_call", qk_norm="given", gates="default", seed=options.seed, device=options.device,
        )
        for shape in options.shapes
        for name in options.backends
    ]  # fmt: skip


def _left(options: Options, store: Store | None, first_call: bool = False) -> bench_left.Left:
    asked: Sequence[tuple[KernelCase, KernelCase | None]] = (
        [(case, None) for case in _first_calls(options)]
        if first_call
        else [
            (case, None if group.peer is None else group.cases[group.peer])
            for block in blocks(options)
            for group in block.groups
            for case in group.cases
        ]
    )
    planned = [
        bench_left.Planned(
            run_id=case.run_id, spec=case.spec(), model=case.op, holds=functools.partial(_holds, case, peer)
        )
        for case, peer in asked
    ]
    return bench_left.count(COMMAND, planned, store, device=options.device)


def _holds(case: KernelCase, peer: KernelCase | None, record: Record) -> bool:
    """Say whether a case's record was made by these sources, and compared with the peer that is asked for."""
    compared = "" if peer is None or peer == case else peer.name
    return record.source_digest == kernels_digest() and record.data["peer"] == compared


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
