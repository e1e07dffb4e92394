"""The one door through which every GPU kernel of the package is launched: so that launches can be listed unrun, and
so that one costs the host little.

For each launch Triton works out from all arguments which compiled kernel it means, and checks that nothing else has
changed: 30 to 50 microseconds, longer than small kernels run. Here the kernel that Triton found is kept under a key of
our own (`specialization`) and called directly. The key holds all that Triton specializes on; other settings of Triton
(its environment variables) count as they were at the first launch.
"""

import contextlib
import ctypes
import functools
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from triton import knobs
from triton.runtime import driver
from triton.runtime.jit import JITFunction

Grid = tuple[int, ...]

OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg", "launch_pdl")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One kernel launch as it would have been: the Triton (or Gluon) function, its grid, arguments and options."""

    kernel: Any
    grid: Grid
    arguments: dict[str, Any]
    options: dict[str, Any]


@dataclass(frozen=True)
class _Recording:
    arch: int
    launches: list[Launch]


Listener = Callable[[Any, Grid, tuple[Any, ...]], None]

_recording: ContextVar[_Recording | None] = ContextVar("recording", default=None)
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def launch(kernel: Any, grid: Grid, **arguments: Any) -> None:
    """Launch ``kernel`` on ``grid`` with all its arguments, constexprs and options (`OPTIONS`) by name.

    Inside `recorded` nothing runs and the launch is listed instead; an empty grid is no launch.
    """
    if 0 in grid:
        return
    recording = _recording.get()
    if recording is not None:
        options = {name: arguments.pop(name) for name in OPTIONS if name in arguments}
        recording.launches.append(Launch(kernel=kernel, grid=grid, arguments=arguments, options=options))
    elif isinstance(kernel, JITFunction):
        key = driver.active.get_current_device(), specialization(kernel, arguments)
        blocks, given = (*grid, 1, 1)[:3], _split(kernel, tuple(arguments)).in_order(arguments)
        compiled = _compiled.get(key)
        if compiled is None:
            compiled = _compiled[key] = kernel[grid](**arguments)
            percent = getattr(kernel, "shared_percent", None)
            if percent is not None:
                _prefer(compiled.function, percent)
        else:
            compiled[blocks](*given)
        tell = _listener.get()
        if tell is not None:
            tell(compiled, blocks, given)
    else:  # by the interpreter
        kernel[grid](**arguments)


_compiled: dict[Hashable, Any] = {}

# CUfunction_attribute of the CUDA driver API
PREFERRED_SHARED_MEMORY_CARVEOUT = 9


def prefer_shared(percent: int) -> Callable[[Any], Any]:
    """Have launches of a kernel ask for so much of an SM's first cache as shared memory; the driver chooses otherwise.

    What is left holds the loads that are on their way. How much of it serves a kernel best is found by measurement.
    """

    def decorate(kernel: Any) -> Any:
        kernel.shared_percent = percent
        return kernel

    return decorate


def _prefer(function: int, percent: int) -> None:
    """Set the preference of a loaded kernel, for launches after this one (and graphs captured then)."""
    code = _driver().cuFuncSetAttribute(ctypes.c_void_p(function), PREFERRED_SHARED_MEMORY_CARVEOUT, percent)
    if code:
        raise RuntimeError(f"cuFuncSetAttribute: error {code} of the CUDA driver, asked for {percent}% shared memory")


@functools.cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def specialization(kernel: Any, arguments: dict[str, Any]) -> Hashable:
    """Return what decides which machine code a launch runs: equal keys here mean equal keys in Triton's cache.

    Constexprs and options count in full, and with their types, because 1, 1.0 and True are equal; of what a kernel is
    given at run time counts what `_fact` says.
    """
    split = _split(kernel, tuple(arguments))
    constants = split.constants(arguments)
    return split, constants, tuple(map(type, constants)), tuple(map(_fact, split.at_run_time(arguments)))


def _fact(x: Any) -> Hashable:
    """Return what Triton may specialize on in an argument at run time.

    Of a tensor its type, and whether it begins at a multiple of 16 bytes; of an integer whether it is 1 or a multiple
    of 16, and how wide it is; of other numbers the type. A TMA descriptor says it itself, by ``specialization``.
    """
    if isinstance(x, Tensor):
        return x.dtype, x.data_ptr() % 16 == 0
    if x is None:
        return None
    if type(x) is int:
        return x == 1, x % 16 == 0, -(2**31) <= x < 2**31, x < 2**63
    if type(x) in (float, bool):
        return type(x).__name__
    said: Hashable = x.specialization
    return said


@dataclass(frozen=True, eq=False)
class _Split:
    """How the named arguments of a kernel divide: constexprs and options; the others; parameters in their order."""

    constants: Callable[[dict[str, Any]], tuple[Any, ...]]
    at_run_time: Callable[[dict[str, Any]], tuple[Any, ...]]
    in_order: Callable[[dict[str, Any]], tuple[Any, ...]]


@functools.cache
def _split(kernel: Any, names: tuple[str, ...]) -> _Split:
    absent = [name for name in kernel.arg_names if name not in names]
    if absent:
        raise TypeError(f"{absent[0]}: not given to {kernel.__name__}, which wants all its arguments by name")
    at_run_time = [parameter.name for parameter in kernel.params if not parameter.is_constexpr]
    constants = [name for name in names if name not in at_run_time]
    return _Split(*(_getter(chosen) for chosen in (constants, at_run_time, kernel.arg_names)))


def _getter(names: list[str]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda arguments: tuple(arguments[name] for name in names)


@contextlib.contextmanager
def recorded(arch: int) -> Iterator[list[Launch]]:
    """Collect the launches made inside, as a GPU of ``arch`` (80, 90, 100) would make them; tensors may be ``meta``."""
    recording = _Recording(arch, [])
    token = _recording.set(recording)
    try:
        yield recording.launches
    finally:
        _recording.reset(token)


@contextlib.contextmanager
def told(listener: Listener) -> Iterator[None]:
    """Tell ``listener`` of each launch made inside, after it: the compiled kernel, its grid, its arguments in order."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def observed() -> bool:
    """Return whether somebody wants to see launches: inside `recorded` or `told`, or by hooks of Triton's."""
    hooks = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook
    return (
        _recording.get() is not None
        or _listener.get() is not None
        or any(getattr(hook, "calls", hook) for hook in hooks)
    )


def on_its_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make the GPU of the first argument, a tensor, the current one inside ``function``: kernels run on that."""

    @functools.wraps(function)
    def call(first: Tensor, *rest: Any, **named: Any) -> Any:
        if not first.is_cuda or first.device.index == torch.cuda.current_device():
            return function(first, *rest, **named)
        with torch.cuda.device(first.device):
            return function(first, *rest, **named)

    return call


def arch_of(device: torch.device) -> int:
    """Return the architecture to choose kernels for: 90 for compute capability 9.0; 0 for Triton's interpreter."""
    recording = _recording.get()
    if recording is not None:
        return recording.arch
    if device.type != "cuda":
        return 0
    major, minor = _capability(device.index)
    return 10 * major + minor


@functools.cache
def _capability(index: int | None) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)
