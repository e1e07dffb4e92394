"""Measuring a training step in this process: the first one, whether it trains, then its time, memory and kernels."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from gdnbench.measure.kernels.timing import device_events
from gdnbench.measure.marks import Marks
from gdnbench.measure.memory import peak_gib
from gdnbench.measure.training.components import KernelTime, grouped

UNTIMED = 16  # steps before the timed ones: libraries choose their algorithms, a step may be captured, losses fall
MARGIN = 0.1  # nats that the loss must have fallen by then
PROFILED = 3  # steps


class Stepper(Protocol):
    """Something that trains a model.

    Attributes:
        params_total: its parameters, a shared one once.
        params_non_embedding: those without the token table, and without an untied head.
    """

    params_total: int
    params_non_embedding: int

    def step(self) -> None:
        """Train one step; the GPU need not be done with it."""
        ...

    def loss(self) -> float:
        """Return the last step's loss in nats."""
        ...

    def what_ran(self) -> Mapping[str, str]:
        """Return what decided which kernels ran."""
        ...


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """What was found.

    Attributes:
        ready: when the model was built (`time.time`).
        first_step_s: seconds of the first step, compilation included.
        untimed_s: seconds of all steps before the timed ones.
        first_loss: loss of the first step, in nats; None where it is no number.
        gate_loss: loss of the last step before the timed ones, likewise.
        trains: whether it fell far enough; else nothing is timed.
        seconds: of all timed steps together.
        step_ms: milliseconds of each timed step.
        peak_gib: peak memory until then.
        reserved_gib: GPU memory that the allocator held then; None on a CPU.
        params_total: `Stepper.params_total`.
        params_non_embedding: `Stepper.params_non_embedding`.
        what_ran: `Stepper.what_ran`.
        kernels: profiled kernels; none where no profile was asked for.
    """

    ready: float
    first_step_s: float
    untimed_s: float
    first_loss: float | None
    gate_loss: float | None
    trains: bool
    seconds: float
    step_ms: tuple[float, ...]
    peak_gib: float
    reserved_gib: float | None
    params_total: int
    params_non_embedding: int
    what_ran: Mapping[str, str]
    kernels: tuple[KernelTime, ...] = ()


def measure(stepper: Stepper, steps: int, device: str, *, profile: bool = False) -> Stepped:
    """Measure ``steps`` steps of a trainer that has not made one yet; with none, its first steps and memory alone."""
    ready, started = time.time(), time.perf_counter()
    stepper.step()
    first_loss = stepper.loss()
    first = time.perf_counter() - started
    for _ in range(UNTIMED - 1 if steps else 1):
        stepper.step()
    gate_loss = stepper.loss()
    untimed = time.perf_counter() - started
    trains = gate_loss <= first_loss - MARGIN
    step_ms, seconds = timed(stepper.step, steps, device) if trains and steps else ((), 0.0)
    cuda = device == "cuda"
    found = Stepped(
        ready=ready,
        first_step_s=first,
        untimed_s=untimed,
        first_loss=first_loss if math.isfinite(first_loss) else None,
        gate_loss=gate_loss if math.isfinite(gate_loss) else None,
        trains=trains,
        seconds=seconds,
        step_ms=step_ms,
        peak_gib=peak_gib(device),
        reserved_gib=torch.cuda.max_memory_reserved() / 2**30 if cuda else None,
        params_total=stepper.params_total,
        params_non_embedding=stepper.params_non_embedding,
        what_ran=dict(stepper.what_ran()),
    )
    return dataclasses.replace(found, kernels=profiled(stepper.step)) if profile and step_ms else found


def timed(step: Callable[[], None], steps: int, device: str) -> tuple[tuple[float, ...], float]:
    """Return the milliseconds of each of so many steps, and the seconds of all of them together.

    The host does not wait between steps: a step's time is that from its predecessor's end on the GPU to its own.
    """
    if device == "cuda":
        torch.cuda.synchronize()
    marks, started = Marks(device), time.perf_counter()
    marks()
    for _ in range(steps):
        step()
        marks()
    times = marks.ms()
    return times, time.perf_counter() - started


def profiled(step: Callable[[], None]) -> tuple[KernelTime, ...]:
    """Return the kernels of a step on a GPU, by name, the longest first."""
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(PROFILED):
            step()
        torch.cuda.synchronize()
    events = device_events(profile.events() or [])
    return tuple(grouped(((event.name, event.time_range.elapsed_us() / 1e3) for event in events), PROFILED))


def median_ms(step_ms: Sequence[float]) -> float:
    """Return the time of a step as components are compared with it."""
    return statistics.median(step_ms)
