"""Making a pass again without working it out again.

What a pass does - tensors it makes, kernels it launches, functions of PyTorch it calls - follows from the metadata of
its arguments. To work it out takes the host longer than a small pass takes a GPU: choices, sizes, strides, some forty
arguments a kernel. So when metadata come a second time the pass is watched, and what it did is kept as a tape; from
the third time on only tensors are made and addresses put in their places.

Watching costs a millisecond, hence not at the first time: lengths that never come again pay nothing for it.
"""

import contextlib
import functools
from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import Tensor
from triton import knobs
from triton.runtime import driver

from gdnbench_kernels import launching
from gdnbench_kernels.tapes import Results, Tape
from gdnbench_kernels.watching import Pass, watch

MOST = 512  # metadata kept of a pass; where more come, all are forgotten

_ONCE, _NEVER = "seen once", "does what no tape holds"
_kept: list[dict[Hashable, Tape | str]] = []


def replayed(function: Pass) -> Pass:
    """Decorate a pass over tensors, numbers and None, given by position, whose metadata and values say what it does.

    It may read no value of a tensor on the host. What else decides (a search's choice, a test's patch) is set inside
    `afresh`. Under Triton's interpreter, and where launches are `observed`, the pass runs as it is.
    """
    if knobs.runtime.interpret:
        return function
    tapes: dict[Hashable, Tape | str] = {}
    _kept.append(tapes)

    @functools.wraps(function)
    def call(*arguments: Any) -> Results:
        if launching.observed():
            return function(*arguments)
        key, addresses = _metadata(arguments)
        tape = tapes.get(key)
        if isinstance(tape, Tape):
            return tape.play(arguments, addresses)
        if tape is None:
            if len(tapes) >= MOST:
                tapes.clear()
            tapes[key] = _ONCE
        elif tape is _ONCE:
            results, watched = watch(function, arguments)
            tapes[key] = watched or _NEVER
            return results
        return function(*arguments)

    return call


@contextlib.contextmanager
def afresh() -> Iterator[None]:
    """Replay nothing inside that was made outside, nor outside what was made inside."""
    _forget()
    try:
        yield
    finally:
        _forget()


def _forget() -> None:
    for tapes in _kept:
        tapes.clear()


def _metadata(arguments: tuple[Any, ...]) -> tuple[Hashable, list[int]]:
    """Return all that a pass may depend on, and the addresses of its tensors (0 for what is none).

    Of a tensor that is everything but its address, of which only the alignment counts, and its device, which is the
    current one; of numbers it is also the type, because 1, 1.0 and True are equal.
    """
    key: list[Any] = [driver.active.get_current_device(), torch.is_autocast_enabled("cuda")]
    addresses = []
    for x in arguments:
        if isinstance(x, Tensor):
            address = x.data_ptr()
            addresses.append(address)
            key += x.dtype, x.shape, x.stride(), address % 16
        else:
            addresses.append(0)
            key += type(x), x
    return tuple(key), addresses
