"""Activations of GPU kernels that are bound by memory only if each takes few instructions."""

import triton
import triton.language as tl
from triton import knobs

_INTERPRETED = tl.constexpr(knobs.runtime.interpret)


@triton.jit
def sigmoid(x):
    """Return ``1 / (1 + e^-x)`` of float32, to a few units in the last place.

    Four instructions where `tl.sigmoid` takes twelve, most of them for denormal numbers that end as 1 or 0 here.
    """
    if _INTERPRETED:
        return tl.sigmoid(x)
    return tl.inline_asm_elementwise(
        """
        mul.ftz.f32 $0, $1, 0fBFB8AA3B;  // -log2(e)
        ex2.approx.ftz.f32 $0, $0;
        add.ftz.f32 $0, $0, 0f3F800000;
        rcp.approx.ftz.f32 $0, $0;
        """,
        constraints="=&f,f",
        args=[x],
        dtype=tl.float32,
        is_pure=True,
        pack=1,
    )


@triton.jit
def silu(x):
    """Return ``x / (1 + e^-x)`` in float32."""
    x = x.to(tl.float32)
    return x * sigmoid(x)


@triton.jit
def relu2(x):
    """Return ``max(x, 0)^2``."""
    x = tl.maximum(x, 0.0)
    return x * x
