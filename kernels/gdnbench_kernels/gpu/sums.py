"""Sums of several tensors at once: the warps of a program meet once for all of them, not once for each."""

import triton
import triton.language as tl
from triton import knobs

_INTERPRETED = tl.constexpr(
    knobs.runtime.interpret
)  # which goes through other functions than `tl.sum` element by element


@triton.jit
def _add_2(a, b, c, d):
    return a + c, b + d


@triton.jit
def _add_3(a, b, c, d, e, f):
    return a + d, b + e, c + f


@triton.jit
def sum_2(a, b, axis: tl.constexpr):
    """Return the sums of two tensors of one shape over an axis."""
    if _INTERPRETED:
        return tl.sum(a, axis), tl.sum(b, axis)
    return tl.reduce((a, b), axis, _add_2)


@triton.jit
def sum_3(a, b, c, axis: tl.constexpr):
    """Return the sums of three tensors of one shape over an axis."""
    if _INTERPRETED:
        return tl.sum(a, axis), tl.sum(b, axis), tl.sum(c, axis)
    return tl.reduce((a, b, c), axis, _add_3)
