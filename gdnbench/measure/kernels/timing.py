"""Timing calls that rotate over input sets: by CUDA graph, by single calls with their launches, by kernels, on a CPU.

A sampler warms its calls up when it is made, and then gives one time a sample. `in_turn` takes samples of several
samplers in turn, so that what drifts (clocks, temperature) falls on all of them alike. All of it happens inside
`on_side_stream`.
"""

import contextlib
import functools
import gc
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch

from gdnbench.measure.kernels.case import Timing

Call = Callable[[], Any]

SAMPLE_MS = 1.0  # a graph is made at least this long: far above the resolution of events (half a microsecond)
MOST_CALLS = 512  # in one graph
WARM_UP = 3
CACHES = 3  # input sets together exceed the L2 cache so many times
MOST_SETS = 64


class NoKernel(RuntimeError):
    """A profile holds no work of the device."""


class Sampler(Protocol):
    """A way to time calls.

    Attributes:
        how: ``graph``, ``events``, ``kernels`` or ``clock``.
        note: what a reader must know about it; empty where there is nothing.
    """

    how: str
    note: str

    def sample(self) -> float:
        """Return milliseconds of one call."""
        ...


def sampler(calls: Sequence[Call], timing: Timing, device: str) -> Sampler:
    """Return the sampler of a clock, warmed up; ``calls`` do the same work on one input set each.

    ``device`` time is that of a CUDA graph. Where the calls cannot be captured it is the sum of their kernels' times,
    and the sampler's note says why.
    """
    if device != "cuda":
        return ClockSampler(calls)
    warm_up(calls)
    if timing == "eager":
        return EventSampler(calls)
    try:
        return GraphSampler(calls)
    except Exception as error:
        _clear_capture_error()
        return KernelSampler(calls, first_line(error))


def in_turn(samplers: Sequence[Sampler], repeats: int) -> list[list[float]]:
    """Return ``repeats`` samples of each sampler, taken round by round: A B, B A, A B, and so on."""
    times: list[list[float]] = [[] for _ in samplers]
    with _no_collection():
        for index in range(repeats):
            order = range(len(samplers)) if index % 2 == 0 else reversed(range(len(samplers)))
            for place in order:
                times[place].append(samplers[place].sample())
    return times


class GraphSampler:
    """Replays of a CUDA graph that holds every call, as often as makes it long enough to time."""

    how = "graph"
    note = ""

    def __init__(self, calls: Sequence[Call]):
        self.marks = _marks()
        self.graph, self.calls = _capture(calls, 1), len(calls)
        passes = int(min(-(-SAMPLE_MS // max(self._replay_ms(), 1e-3)), MOST_CALLS // len(calls)))
        if passes > 1:
            self.graph, self.calls = _capture(calls, passes), len(calls) * passes
            self._replay_ms()

    def sample(self) -> float:
        """Return milliseconds of one call, without the time of launches."""
        return self._replay_ms() / self.calls

    def _replay_ms(self) -> float:
        start, end = self.marks
        # The first replay keeps the device busy until the second is queued: the clock never waits for the host.
        self.graph.replay()
        start.record()
        self.graph.replay()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)


class EventSampler:
    """Single calls from an idle device, launches included: what a program sees that does nothing else."""

    how = "events"
    note = ""

    def __init__(self, calls: Sequence[Call]):
        self.marks, self.calls, self.turn = _marks(), calls, 0

    def sample(self) -> float:
        """Return milliseconds of one call."""
        call, self.turn = self.calls[self.turn % len(self.calls)], self.turn + 1
        start, end = self.marks
        torch.cuda.synchronize()
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)


class KernelSampler:
    """The sum of the times of all kernels, copies and fills of one pass over the input sets, by the profiler."""

    how = "kernels"

    def __init__(self, calls: Sequence[Call], reason: str):
        self.calls = calls
        self.note = f"sum of kernel times, since the calls cannot be captured in a graph: {reason}"
        os.environ.setdefault("TEARDOWN_CUPTI", "1")  # else it slows the launches of what is timed later
        self.sample()

    def sample(self) -> float:
        """Return milliseconds of one call, without gaps between its kernels.

        Raises:
            NoKernel: in three profiles in a row, where one may see none while other processes profile this GPU, too.
        """
        for _ in range(2):
            with contextlib.suppress(NoKernel):
                return device_ms(self._profiled()) / len(self.calls)
        return device_ms(self._profiled()) / len(self.calls)

    def _profiled(self) -> list[Any]:
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            for call in self.calls:
                call()
            torch.cuda.synchronize()
        return list(profile.events() or [])


class ClockSampler:
    """Single calls on a CPU."""

    how = "clock"
    note = ""

    def __init__(self, calls: Sequence[Call]):
        self.calls, self.turn = calls, 0
        warm_up(calls[:1])

    def sample(self) -> float:
        """Return milliseconds of one call."""
        call, self.turn = self.calls[self.turn % len(self.calls)], self.turn + 1
        started = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - started)


def device_ms(events: Iterable[Any]) -> float:
    """Return the summed milliseconds of a profile's kernels, copies and fills; raise where there are none."""
    return sum(event.time_range.elapsed_us() for event in device_events(events)) / 1e3


def device_events(events: Iterable[Any]) -> list[Any]:
    """Return a profile's kernels, copies and fills; raise where there are none."""
    on_device = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    work = [event for event in on_device if not getattr(event, "is_user_annotation", False)]
    if not work:
        raise NoKernel("the profiler saw no kernel")
    return work


def warm_up(calls: Sequence[Call]) -> None:
    """Call everything until compilation and the making of handles are over."""
    for _ in range(WARM_UP):
        calls[0]()
    for call in calls[1:]:
        call()


def input_sets(nbytes: int, device: str) -> int:
    """Return how many input sets of a size to rotate over, so that none is in the cache when its turn comes."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size if device == "cuda" else 0
    return max(2, min(MOST_SETS, -(-CACHES * cache // max(nbytes, 1))))


@functools.cache
def side_stream() -> torch.cuda.Stream:
    """Return the stream that everything runs on: a capture needs one that is not the default one."""
    return torch.cuda.Stream()


def on_side_stream(device: str) -> contextlib.AbstractContextManager[Any]:
    """Put what follows on `side_stream`: draws, checks, calls, samples; on a CPU this does nothing."""
    return torch.cuda.stream(side_stream()) if device == "cuda" else contextlib.nullcontext()


def first_line(error: BaseException) -> str:
    """Return an error's kind and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _capture(calls: Sequence[Call], passes: int) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    # The backward pass runs in a thread of autograd's, whose calls must not break the capture.
    with torch.cuda.graph(graph, stream=side_stream(), capture_error_mode="thread_local"):
        for _ in range(passes):
            # Kept for the length of a pass, so that results rotate over memory as inputs do.
            results = [call() for call in calls]
            del results
    return graph


def _clear_capture_error() -> None:
    """Take the error that a broken capture leaves behind; raise where the device itself is at fault."""
    with contextlib.suppress(RuntimeError):
        torch.cuda.synchronize()
    torch.cuda.synchronize()


def _marks() -> tuple[torch.cuda.Event, torch.cuda.Event]:
    return torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector out of the samples."""
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
