"""Which version of a kernel runs: Gluon on a Hopper, elsewhere plain Triton."""

import contextlib
import functools
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gdnbench_kernels import replay
from gdnbench_kernels.gated_delta.gpu import gradients as plain_gradients
from gdnbench_kernels.gated_delta.gpu import prepare as plain_prepare
from gdnbench_kernels.gated_delta.gpu import reverse as plain_reverse
from gdnbench_kernels.gated_delta.gpu import scan as plain_scan
from gdnbench_kernels.gated_delta.gpu.layout import Layout
from gdnbench_kernels.launching import arch_of

HOPPER = 90

# Kernels that run in Gluon on a Hopper.
GLUON = {"gradients", "prepare", "scan", "reverse"}


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Run the plain versions inside, on every GPU."""
    kept = GLUON.copy()
    GLUON.clear()
    try:
        with replay.afresh():
            yield
    finally:
        GLUON.update(kept)


def prepare(layout: Layout, **arguments: Any) -> None:
    """Run `gpu.prepare.run` or its version for Hopper."""
    _choose("prepare", plain_prepare, arguments["k"].device).run(layout, **arguments)


def scan(layout: Layout, segments: int, **arguments: Any) -> None:
    """Run `gpu.scan.run` or its version for Hopper."""
    _choose("scan", plain_scan, arguments["k"].device).run(layout, segments, **arguments)


def reverse(layout: Layout, segments: int, **arguments: Any) -> None:
    """Run `gpu.reverse.run` or its version for Hopper."""
    _choose("reverse", plain_reverse, arguments["k"].device).run(layout, segments, **arguments)


def gradients(layout: Layout, **arguments: Any) -> None:
    """Run `gpu.gradients.run` or its version for Hopper."""
    _choose("gradients", plain_gradients, arguments["k"].device).run(layout, **arguments)


def movable(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return token tensors as the kernels can load them: copies of those whose layout the copy engine cannot follow.

    On a Hopper bases and strides must be multiples of 16 bytes; elsewhere only the last dim must be contiguous.
    """
    if GLUON and arch_of(tensors[0].device) == HOPPER:
        aligned = _gluon("warpgroups").aligned
        return tuple(x if aligned(x) else x.clone(memory_format=torch.contiguous_format) for x in tensors)
    return tuple(x if x.stride(-1) == 1 else x.contiguous() for x in tensors)


def key_tiles(layout: Layout, device: torch.device) -> int:
    """Return how many programs of the chosen `gradients` share a chunk of a head, each with a tile of K."""
    tiles: int = _choose("gradients", plain_gradients, device).key_tiles(layout, device)
    return tiles


def _choose(name: str, plain: ModuleType, device: torch.device) -> ModuleType:
    return _gluon(name) if name in GLUON and arch_of(device) == HOPPER else plain


@functools.cache
def _gluon(name: str) -> ModuleType:
    return importlib.import_module(f"gdnbench_kernels.gated_delta.gpu.hopper.{name}")
