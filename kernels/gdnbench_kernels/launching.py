"""The one door through which every GPU kernel of the package is launched, so that launches can be listed unrun."""

import contextlib
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch

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


_recording: ContextVar[_Recording | None] = ContextVar("recording", default=None)


def launch(kernel: Any, grid: Grid, **arguments: Any) -> None:
    """Launch ``kernel`` on ``grid`` with arguments, constexprs and options (`OPTIONS`) by name.

    Inside `recorded` nothing runs and the launch is listed instead; an empty grid is no launch.
    """
    if 0 in grid:
        return
    recording = _recording.get()
    if recording is None:
        kernel[grid](**arguments)
        return
    options = {name: arguments.pop(name) for name in OPTIONS if name in arguments}
    recording.launches.append(Launch(kernel=kernel, grid=grid, arguments=arguments, options=options))


@contextlib.contextmanager
def recorded(arch: int) -> Iterator[list[Launch]]:
    """Collect the launches made inside, as a GPU of ``arch`` (80, 90, 100) would make them; tensors may be ``meta``."""
    recording = _Recording(arch, [])
    token = _recording.set(recording)
    try:
        yield recording.launches
    finally:
        _recording.reset(token)


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
