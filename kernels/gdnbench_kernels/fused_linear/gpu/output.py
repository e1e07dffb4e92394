"""What a product is made into, where its own kernel has not done it: parts added up, the activation, the scale."""

import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.fused_linear.api import Output
from gdnbench_kernels.gpu import pdl
from gdnbench_kernels.gpu.activations import relu2, silu
from gdnbench_kernels.launching import launch

BLOCK = 1024


def finished(parts: Tensor, wanted: Output) -> Tensor:
    """Return ``scale * activation(y)`` of y, given as parts ``[S, B, N]`` of its sums."""
    splits, batch, width = parts.shape
    if splits == 1 and wanted.activation == "none" and wanted.scale == 1.0:
        return parts[0].to(wanted.dtype)
    swiglu = wanted.activation == "swiglu"
    width //= 1 + swiglu
    made = parts.new_empty(batch, width, dtype=wanted.dtype)
    launch(
        fused_linear_output_kernel,
        (batch, triton.cdiv(width, BLOCK)),
        parts=parts,
        made=made,
        width=width,
        scale=wanted.scale,
        SPLITS=splits,
        SWIGLU=swiglu,
        SQUARED=wanted.activation == "relu2",
        BLOCK=BLOCK,
        **pdl.overlapping(parts.device),
    )
    return made


@triton.jit(do_not_specialize=["scale"])
def fused_linear_output_kernel(
    parts, made, width, scale,
    SPLITS: tl.constexpr, SWIGLU: tl.constexpr, SQUARED: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Program: a block of a row."""
    pdl.launch_dependents(PDL)
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    pdl.wait(PDL)
    parts += (1 + SWIGLU) * row * width
    size = (1 + SWIGLU) * tl.num_programs(0).to(tl.int64) * width
    found = added(parts, column, width, size, SPLITS)
    if SWIGLU:
        found = silu(found) * added(parts + width, column, width, size, SPLITS)
    if SQUARED:
        found = relu2(found)
    tl.store(made + row * width + column, (scale * found).to(made.dtype.element_ty), mask=column < width)


@triton.jit
def added(parts, column, width, size, SPLITS: tl.constexpr):
    """Return the sum of parts ``size`` numbers apart, in float32."""
    found = tl.zeros(column.shape, tl.float32)
    for i in tl.static_range(SPLITS):
        found += tl.load(parts + i * size + column, mask=column < width, other=0.0).to(tl.float32)
    return found
