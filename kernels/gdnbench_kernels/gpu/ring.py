"""The next input of a short convolution whose last inputs lie in a ring, in two parts: before and after it is there.

See `gdnbench_kernels.short_convolution.ring`. What a step only reads of a ring and of weights was written by no kernel
of the same step, so that a kernel may read it before those before it have ended.
"""

import triton
import triton.language as tl

from gdnbench_kernels.gpu.activations import sigmoid


@triton.jit
def earlier(
    ring, weight, weight_sc, weight_sw, bias, length, channel, inside, channels, SIZE: tl.constexpr
):  # fmt: skip
    """Return the sum of taps over a row's earlier inputs (and the bias), and the next input's tap, in float32.

    Args:
        ring: the row's, ``[SIZE, channels]``.
        weight: ``[channels, SIZE]`` with strides ``weight_sc`` and ``weight_sw``, the next input's tap last.
        bias: ``[channels]`` or None.
        length: inputs that the row has seen.
        channel: which channels, ``inside`` of them.
    """
    weight += channel * weight_sc
    tap = tl.load(weight + (SIZE - 1) * weight_sw, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros(channel.shape, tl.float32)
    if bias is not None:
        total += tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
    for j in tl.static_range(SIZE - 1):
        x = tl.load(ring + (length + 1 + j) % SIZE * channels + channel, mask=inside, other=0.0).to(tl.float32)
        total += x * tl.load(weight + j * weight_sw, mask=inside, other=0.0).to(tl.float32)
    return total, tap


@triton.jit
def convolved(total, tap, x):
    """Return the convolution's output under SiLU from `earlier` and the next input ``x``."""
    total += tap * x.to(tl.float32)
    return total * sigmoid(total)


@triton.jit
def push(ring, length, channel, inside, channels, x, SIZE: tl.constexpr):
    """Write the next input into a row's ring: one program for each channel."""
    tl.store(ring + length % SIZE * channels + channel, x, mask=inside)
