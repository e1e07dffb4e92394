"""The next input of a short convolution whose last inputs lie in a ring, in two parts: before and after it is there.

See `gdnbench_kernels.short_convolution.ring`. What a step only reads of a ring and of weights was written by no kernel
of the same step, so that a kernel may read it before those before it have ended.
"""

import triton
import triton.language as tl

from gdnbench_kernels.gpu.activations import sigmoid


@triton.jit
def earlier(ring, weight, weight_sc, weight_sw, bias, length, channel, inside, channels, SIZE: tl.constexpr):
    """Load what `convolved` needs: a row's earlier inputs, and the taps, the bias behind them. Nothing waits here.

    Args:
        ring: the row's, ``[SIZE, channels]``.
        weight: ``[channels, SIZE]`` with strides ``weight_sc`` and ``weight_sw``, the next input's tap last.
        bias: ``[channels]`` or None.
        length: inputs that the row has seen.
        channel: which channels, ``inside`` of them.
    """
    inputs = ()
    taps = ()
    for j in tl.static_range(SIZE):
        taps = taps + (tl.load(weight + channel * weight_sc + j * weight_sw, mask=inside, other=0.0),)
    for j in tl.static_range(SIZE - 1):
        slot = (length + 1 + j) % SIZE
        inputs = inputs + (tl.load(ring + slot * channels + channel, mask=inside, other=0.0),)
    if bias is not None:
        taps = taps + (tl.load(bias + channel, mask=inside, other=0.0),)
    return inputs, taps


@triton.jit
def convolved(loaded, x):
    """Return the convolution's output under SiLU from what `earlier` loaded and the next input ``x``, in float32."""
    inputs, taps = loaded
    total = taps[len(inputs)].to(tl.float32) * x.to(tl.float32)
    if len(taps) > len(inputs) + 1:
        total += taps[len(inputs) + 1].to(tl.float32)
    for j in tl.static_range(len(inputs)):
        total += taps[j].to(tl.float32) * inputs[j].to(tl.float32)
    return total * sigmoid(total)


@triton.jit
def push(ring, length, channel, inside, channels, x, SIZE: tl.constexpr):
    """Write the next input into a row's ring: one program for each channel."""
    tl.store(ring + length % SIZE * channels + channel, x, mask=inside)
