"""For more rows than one kernel takes: the input by a kernel; the product by `several`, or by PyTorch's and a kernel.

PyTorch's product suits many rows; a kernel of ours does not wait for the kernels around it, nor does it leave a part of
the chip idle, and it takes all ranges of rows that read inputs of their own at once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.fused_linear.api import FusedLinear, Input, Output
from gdnbench_kernels.fused_linear.gpu import several
from gdnbench_kernels.fused_linear.gpu.few import arguments
from gdnbench_kernels.fused_linear.gpu.input import make_input, read_constants
from gdnbench_kernels.fused_linear.gpu.output import finished
from gdnbench_kernels.gpu import pdl
from gdnbench_kernels.launching import launch
from gdnbench_kernels.precision import HALF

MOST_COLUMNS, COLUMNS_PER_WARP = 2048, 256  # of a row, that a program takes at once
MOST, MOST_MIXED = 64, 128  # rows of x that `several` is given, without and with a mix


def products(given: Input, weight: Tensor, wanted: Output) -> FusedLinear:
    """Run kernels and PyTorch's product; see `fused_linear.api.fused_linear`."""
    total, normed, inputs = prepared(given, weight)
    mixed = len(inputs) > 1
    if weight.dtype in HALF and len(given.x) <= (MOST_MIXED if mixed else MOST):
        return FusedLinear(several.product(inputs, weight, wanted), total, normed)
    if wanted.carry is not None:
        wanted.carry[1].copy_(wanted.carry[0])
    return FusedLinear(finished(_multiplied(inputs, weight, wanted)[None], wanted), total, normed)


def _multiplied(inputs: Tensor, weight: Tensor, wanted: Output) -> Tensor:
    """Return PyTorch's product, in float32 where that is wanted as it is."""
    wide = wanted.activation == "none" and wanted.dtype == torch.float32 != weight.dtype and weight.is_cuda
    parts = weight.split(wanted.mix_rows or len(weight))
    if wide:  # sums of halves as they are
        found = [torch.mm(i, part.mT, out_dtype=torch.float32) for i, part in zip(inputs, parts, strict=True)]
    else:
        found = [torch.mm(i, part.mT) for i, part in zip(inputs, parts, strict=True)]
    return found[0] if len(found) == 1 else torch.cat(found, -1)


def prepared(given: Input, weight: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return the sum, the norm if it is wanted, and the product's inputs ``[M, B, K]`` (M = 1 without mix)."""
    x = given.x
    if given.is_plain(weight.dtype):
        return x, None, x.contiguous()[None]
    inputs = weight.new_empty(1 if given.mix is None else len(given.mix), *x.shape)
    total = None if given.add is None else x.new_empty(x.shape)
    normed = None if given.previous is None else weight.new_empty(x.shape)
    block = min(MOST_COLUMNS, triton.next_power_of_2(x.shape[1]))
    launch(
        fused_linear_input_kernel,
        (len(x), len(inputs)),
        **arguments(given),
        inputs=inputs,
        total=total,
        normed=normed,
        BLOCK=block,
        num_warps=max(1, block // COLUMNS_PER_WARP),
        **pdl.overlapping(x.device),
    )
    return x if total is None else total, normed, inputs


@triton.jit(do_not_specialize=["eps"])
def fused_linear_input_kernel(
    x, add, norm, norm_bias, gate, previous, mix, inputs, total, normed,
    x_row, add_row, add_part, gate_row, previous_row, eps,
    K: tl.constexpr, GROUP: tl.constexpr, GATE_FIRST: tl.constexpr, ADDS: tl.constexpr, NORM: tl.constexpr,
    BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Program: one row, and one way to mix it."""
    pdl.launch_dependents(PDL)
    b, which = tl.program_id(0), tl.program_id(1)
    constants = read_constants(norm, norm_bias, mix, which, K, NORM, BLOCK)
    pdl.wait(PDL)
    made = make_input(
        x, add, gate, previous, constants, total, normed, b, which == 0, x_row, add_row, add_part, gate_row,
        previous_row, eps, K, GROUP, GATE_FIRST, ADDS, BLOCK, inputs.dtype.element_ty,
    )  # fmt: skip
    row = inputs + (which.to(tl.int64) * tl.num_programs(0) + b) * K
    for i in tl.static_range(len(made)):
        column = i * BLOCK + tl.arange(0, BLOCK)
        tl.store(row + column, made[i], mask=column < K)
