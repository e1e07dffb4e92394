"""Triton's interpreter runs a kernel as Python on a CPU, for all kernels of a process or for none.

So these files are collected only in a process that was started for it: `test_interpreted.py`, one folder up, starts
one for each file; by hand it is ``TRITON_INTERPRET=1 python -m pytest tests/operations/interpreted``.
"""

import os

import numpy as np
import pytest

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

collect_ignore_glob = [] if INTERPRETED else ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def bfloat16_is_rounded_and_multiplied_as_numbers():
    """Mend two faults of Triton 3.6's interpreter: products of bfloat16 take its bits as integers, casts to it cut off.

    The interpreter holds bfloat16 as the upper half of a float32's bits.
    """
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def widen(bits):
        return (bits.astype(np.uint32) << 16).view(np.float32)

    def cast(self, source, to, plain=InterpreterBuilder.cast_impl):
        pair = source.dtype.scalar, to.scalar
        if pair == (tl.bfloat16, tl.float32):
            return TensorHandle(widen(source.data), tl.float32)
        if pair == (tl.float32, tl.bfloat16):
            bits = np.ascontiguousarray(source.data).view(np.uint32)
            nearest_even = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
            return TensorHandle(np.where(np.isnan(source.data), np.uint16(0x7FC0), nearest_even), tl.bfloat16)
        return plain(self, source, to)

    def dot(self, a, b, *rest, plain=InterpreterBuilder.create_dot):
        if a.dtype.scalar == tl.bfloat16:
            a, b = (TensorHandle(widen(x.data), tl.float32) for x in (a, b))
        return plain(self, a, b, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpreterBuilder, "cast_impl", cast)
        patch.setattr(InterpreterBuilder, "create_dot", dot)
        yield
