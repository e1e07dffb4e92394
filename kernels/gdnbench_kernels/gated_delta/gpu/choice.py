"""Which version of a kernel runs: Gluon on a Hopper whose copy engine can move the tensors, else plain Triton."""

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from gdnbench_kernels.gated_delta.gpu import gradients as plain_gradients
from gdnbench_kernels.gated_delta.gpu import prepare as plain_prepare
from gdnbench_kernels.gated_delta.gpu import reverse as plain_reverse
from gdnbench_kernels.gated_delta.gpu import scan as plain_scan
from gdnbench_kernels.gated_delta.gpu.layout import Layout
from gdnbench_kernels.launching import arch_of

Run = Callable[..., None]

HOPPER = 90
TOKENS = ("q", "k", "v", "do", "output", "delta", "dx")  # what the copy engine moves and a caller laid out

# Kernels that run in Gluon where they can.
GLUON = {"gradients", "prepare", "scan", "reverse"}


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Run the plain versions inside, on every GPU."""
    kept = GLUON.copy()
    GLUON.clear()
    try:
        yield
    finally:
        GLUON.update(kept)


def prepare(layout: Layout, **arguments: Any) -> None:
    """Run `gpu.prepare.run` or its version for Hopper."""
    _choose("prepare", plain_prepare, arguments)(layout, **arguments)


def scan(layout: Layout, segments: int, **arguments: Any) -> None:
    """Run `gpu.scan.run` or its version for Hopper."""
    _choose("scan", plain_scan, arguments)(layout, segments, **arguments)


def reverse(layout: Layout, segments: int, **arguments: Any) -> None:
    """Run `gpu.reverse.run` or its version for Hopper."""
    _choose("reverse", plain_reverse, arguments)(layout, segments, **arguments)


def gradients(layout: Layout, **arguments: Any) -> None:
    """Run `gpu.gradients.run` or its version for Hopper."""
    _choose("gradients", plain_gradients, arguments)(layout, **arguments)


def _choose(name: str, plain: ModuleType, arguments: dict[str, Any]) -> Run:
    run: Run = plain.run
    if name in GLUON and arch_of(arguments["k"].device) == HOPPER:
        if _gluon("warpgroups").aligned(*(arguments.get(token) for token in TOKENS)):
            run = _gluon(name).run
    return run


@functools.cache
def _gluon(name: str) -> ModuleType:
    return importlib.import_module(f"gdnbench_kernels.gated_delta.gpu.hopper.{name}")
