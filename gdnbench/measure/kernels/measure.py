"""Measuring a block: inputs are drawn, every backend is checked, and those that are right are timed in turn."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from gdnbench_kernels.backends import BackendUnavailable
from torch import Tensor

from gdnbench.errors import GdnbenchError
from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.measure.kernels.case import KernelCase
from gdnbench.measure.kernels.check import Check, Reference, leaves
from gdnbench.measure.kernels.floors import Work, floor_ms
from gdnbench.measure.kernels.grid import Block, Group
from gdnbench.measure.kernels.operations import OPERATIONS, Operation
from gdnbench.measure.kernels.operations.operation import Tensors
from gdnbench.measure.kernels.ratios import Ratio, Spread, paired_ratio, spread
from gdnbench.measure.kernels.timing import Call, Sampler, first_line, in_turn, input_sets, on_side_stream, sampler

REFUSALS = (BackendUnavailable, ValueError, NotImplementedError)
SEEDS_APART = 1000  # between input sets


@dataclass(frozen=True)
class Refusal:
    """Why there is no number: the backend refuses the case, or something broke."""

    outcome: Literal["unavailable", "failed"]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Clocked:
    """The times of one case.

    Attributes:
        samples: milliseconds of one call, one a round.
        how: the kind of sampler (`gdnbench.measure.kernels.timing.Sampler`).
        note: what the sampler says.
        sets: input sets that the calls rotate over.
    """

    samples: tuple[float, ...]
    how: str
    note: str
    sets: int

    @functools.cached_property
    def ms(self) -> Spread:
        """Median and percentiles."""
        return spread(self.samples)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was found for one case.

    Attributes:
        case: the case.
        refusal: why there is no number, if so.
        check: the correctness check of its direction, if it ran.
        clocked: the times; None where there is a refusal or the check is red.
        ratio: how many times longer the peer took, round by round.
        peer: the peer's name; empty without one, and for the peer itself.
        work: its least work, by pass.
        floor_ms: the time of that at the calibrated rates.
        what_ran: what the backend says that it ran.
    """

    case: KernelCase
    work: tuple[Work, ...]
    floor_ms: float
    refusal: Refusal | None = None
    check: Check | None = None
    clocked: Clocked | None = None
    ratio: Ratio | None = None
    peer: str = ""
    what_ran: Any = None

    @property
    def wrong(self) -> bool:
        """Whether the correctness check is red."""
        return self.check is not None and not self.check.correct


class BlockRun:
    """A block being measured: `prepare`, then `measure` each of its groups; `open_block` sees to the rest."""

    def __init__(self, block: Block, calibration: Calibration, repeats: int):
        self.block, self.calibration, self.repeats = block, calibration, repeats
        self.cases = [case for group in block.groups for case in group.cases]
        self.operation: Operation = OPERATIONS[self.cases[0].op]
        self.sets: list[Tensors] = []
        self.cotangents: list[Tensor] = []
        self.found: dict[tuple[str, str, bool], Check | Refusal] = {}

    def prepare(self) -> None:
        """Draw the input sets and check every backend, in the directions that will be timed."""
        self._draw()
        references: dict[str, Reference] = {}
        for case in self.cases:
            if _subject(case) in self.found:
                continue
            if case.variant not in references:
                references[case.variant] = Reference(self.operation, case, self.sets[0], self.cotangents[0])
            reference = references[case.variant]
            check = reference.check_forward if case.direction == "forward" else reference.check_gradients
            self.found[_subject(case)] = self._checked(case, functools.partial(check, case))

    def measure(self, group: Group) -> list[Measurement]:
        """Time the backends of a group that passed their checks, in turn."""
        samplers: dict[KernelCase, Sampler] = {}
        refusals = {case: found for case in group.cases if isinstance(found := self.found[_subject(case)], Refusal)}
        for case in group.cases:
            check = self.found[_subject(case)]
            if isinstance(check, Check) and check.correct:
                made = self._attempt(case, functools.partial(self._sampler, case))
                (refusals if isinstance(made, Refusal) else samplers)[case] = made
        times = dict(zip(samplers, in_turn(list(samplers.values()), self.repeats)))
        clocked = {case: self._clocked(samplers[case], times[case]) for case in samplers}
        peer = None if group.peer is None else group.cases[group.peer]
        return [self._measurement(case, refusals.get(case), clocked, peer) for case in group.cases]

    def _draw(self) -> None:
        case = self.cases[0]
        self.sets = [self.operation.inputs(case, case.seed)]
        size = sum(x.numel() * x.element_size() for x in self.sets[0].values())
        for index in range(1, input_sets(size, case.device)):
            self.sets.append(self.operation.inputs(case, case.seed + index * SEEDS_APART))
        rng = torch.Generator(case.device).manual_seed(case.seed)
        self.cotangents = [self.operation.cotangent(tensors, rng) for tensors in self.sets]

    def _checked(self, case: KernelCase, check: Callable[[], Check]) -> Check | Refusal:
        if reason := self.operation.why_unavailable(case.impl):
            return Refusal("unavailable", reason)
        return self._attempt(case, check)

    def _attempt(self, case: KernelCase, call: Callable[[], Any]) -> Any:
        """Return what a call returns, or why it does not; raise where the GPU is of no use any more."""
        try:
            return call()
        except GdnbenchError:
            raise
        except Exception as error:
            refused = self.operation.foreign or isinstance(error, REFUSALS)
            refusal = Refusal("unavailable" if refused else "failed", first_line(error))
        try:
            if case.device == "cuda":
                torch.cuda.synchronize()
        except RuntimeError as error:
            raise GdnbenchError(f"{case.run_id}: the GPU is in error after it ({first_line(error)})") from error
        return refusal

    def _sampler(self, case: KernelCase) -> Sampler:
        calls = [_call(self.operation, case, *pair) for pair in zip(self.sets, self.cotangents)]
        return sampler(calls, case.timing, case.device)

    def _clocked(self, used: Sampler, times: Sequence[float]) -> Clocked:
        return Clocked(samples=tuple(times), how=used.how, note=used.note, sets=len(self.sets))

    def _measurement(
        self,
        case: KernelCase,
        refusal: Refusal | None,
        clocked: dict[KernelCase, Clocked],
        peer: KernelCase | None,
    ) -> Measurement:
        check = self.found[_subject(case)]
        work = self.operation.work(case.shape, getattr(torch, case.dtype).itemsize, case.direction)
        own, other = clocked.get(case), None if peer is None or peer == case else clocked.get(peer)
        ratio = None if own is None or other is None else paired_ratio(own.samples, other.samples, seed=case.seed)
        return Measurement(
            case=case,
            refusal=refusal,
            check=check if isinstance(check, Check) else None,
            clocked=own,
            ratio=ratio,
            peer="" if peer is None or peer == case else peer.name,
            work=work,
            floor_ms=floor_ms(work, self.calibration),
            what_ran=None if own is None else self.operation.what_ran(case.impl),
        )


@contextlib.contextmanager
def open_block(block: Block, calibration: Calibration, repeats: int) -> Iterator[BlockRun]:
    """Yield a block to be measured; its memory is given back afterwards."""
    run = BlockRun(block, calibration, repeats)
    device = run.cases[0].device
    with on_side_stream(device):
        yield run
    run.sets.clear()
    run.cotangents.clear()
    if device == "cuda":
        torch.cuda.empty_cache()


def _subject(case: KernelCase) -> tuple[str, str, bool]:
    """Return what a check is for: a backend, its variant, and whether gradients are asked for."""
    return case.impl, case.variant, case.direction != "forward"


def _call(operation: Operation, case: KernelCase, tensors: Tensors, cotangent: Tensor) -> Call:
    """Return a call that does what a direction times, on one input set."""

    def forward() -> Any:
        with torch.no_grad():
            return operation.outputs(case, tensors)

    if case.direction == "forward":
        return forward
    wanted = operation.wanted(tensors)
    inputs = leaves(tensors, wanted)
    asked = [inputs[name] for name in wanted]
    if case.direction == "backward":
        output = operation.outputs(case, inputs)[0]
        return lambda: torch.autograd.grad(output, asked, cotangent, retain_graph=True)

    def both() -> Any:
        output = operation.outputs(case, inputs)[0]
        return output, torch.autograd.grad(output, asked, cotangent)

    return both
