"""Which tile sizes and warps a kernel runs with: a table in the package, by kernel, architecture and shape class.

Nothing is searched when a kernel is called. `gdnbench tune` measures and rewrites ``configurations.json``.
"""

import contextlib
import functools
import json
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
import triton

from gdnbench_kernels import replay
from gdnbench_kernels.gated_delta.gpu.layout import Layout
from gdnbench_kernels.launching import arch_of

FILE = Path(__file__).with_suffix(".json")

_forced: ContextVar[dict[str, dict[str, Any]] | None] = ContextVar("forced", default=None)


@contextlib.contextmanager
def forced(kernel: str, config: dict[str, Any]) -> Iterator[None]:
    """Use ``config`` for ``kernel`` inside, whatever the table says: how a search tries a candidate."""
    token = _forced.set({**(_forced.get() or {}), kernel: config})
    try:
        with replay.afresh():
            yield
    finally:
        _forced.reset(token)


def configuration(kernel: str, device: torch.device, layout: Layout, **facts: int) -> dict[str, Any]:
    """Return the tile sizes, warps and stages of ``kernel`` as keyword arguments of its launch.

    An entry of the table fits when each of its bounds holds: ``key_dim`` and ``value_dim`` (at most, as powers of
    two), ``programs`` (at least: sequences x value heads x pieces) and ``arch`` (exactly; without one it serves all).
    Of those that fit, one that names the architecture goes first, then the tightest ``key_dim`` and ``value_dim``,
    then the largest ``programs``.
    """
    tried = _forced.get()
    if tried and kernel in tried:
        return dict(tried[kernel])
    programs = layout.value_heads * facts.get("pieces", layout.sequences)
    return dict(_choose(kernel, arch_of(device), layout.key_dim, layout.value_dim, programs))


@functools.cache
def _choose(kernel: str, arch: int, key_dim: int, value_dim: int, programs: int) -> dict[str, Any]:
    wanted = triton.next_power_of_2(key_dim), triton.next_power_of_2(value_dim)
    fits = [
        entry
        for entry in table()
        if entry["kernel"] == kernel
        and entry.get("arch", arch) == arch
        and entry.get("key_dim", 256) >= wanted[0]
        and entry.get("value_dim", 512) >= wanted[1]
        and entry.get("programs", 0) <= programs
    ]
    best = min(
        fits,
        key=lambda e: ("arch" not in e, e.get("key_dim", 256), e.get("value_dim", 512), -e.get("programs", 0)),
    )
    return best["config"]


@functools.cache
def table() -> list[dict[str, Any]]:
    """Return the shipped table."""
    return json.loads(FILE.read_text())
