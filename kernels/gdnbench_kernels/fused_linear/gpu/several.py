"""The product of several rows, by tensor cores in one kernel: weights are the left operand, all rows the right one.

Rows' inputs are made before, once (`many.prepared`): all programs read them. Each begins to bring its weights to L2
before it waits for that.
"""

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.fused_linear.api import Output
from gdnbench_kernels.fused_linear.gpu.few import carried, copy, share_of, tile_rows
from gdnbench_kernels.fused_linear.gpu.tiles import shares
from gdnbench_kernels.gpu import pdl
from gdnbench_kernels.gpu.activations import sigmoid
from gdnbench_kernels.launching import launch

LINES, LINE = tl.constexpr(8), tl.constexpr(128)  # of L2, and their bytes


@dataclass(frozen=True, kw_only=True)
class DotTile:
    """How a program goes through its rows of the matrix: so many at once, blocks of columns, blocks on their way."""

    ROWS: int = 64
    BLOCK: int = 128
    STAGES: int = 4
    num_warps: int = 4


TILE = DotTile()


def product(inputs: Tensor, weight: Tensor, wanted: Output, tile: DotTile = TILE) -> Tensor:
    """Return y for inputs ``[M, B, K]`` of the M ranges of rows."""
    swiglu = wanted.activation == "swiglu"
    rows, height = len(weight) // (1 + swiglu), tile.ROWS // (1 + swiglu)
    ranges = shares(wanted.mix_rows or (rows,), height, triton.cdiv(rows, height) + len(inputs))
    y = weight.new_empty(inputs.shape[1], rows, dtype=wanted.dtype)
    launch(
        fused_linear_dot_kernel,
        (sum(count for _, count, _, _ in ranges),),
        inputs=inputs,
        weight=weight,
        y=y,
        **carried(wanted),
        batch=inputs.shape[1],
        scale=wanted.scale,
        rows=rows,
        K=inputs.shape[2],
        RANGES=ranges,
        SWIGLU=swiglu,
        SQUARED=wanted.activation == "relu2",
        ROWS=height,
        COLUMNS=max(16, triton.next_power_of_2(inputs.shape[1])),
        BLOCK=tile.BLOCK,
        STAGES=tile.STAGES,
        num_warps=tile.num_warps,
        **pdl.overlapping(inputs.device),
    )
    return y


@triton.jit(do_not_specialize=["carried", "scale", "batch"])
def fused_linear_dot_kernel(
    inputs, weight, y, source, target, carried, batch, scale, rows,
    K: tl.constexpr, RANGES: tl.constexpr, SWIGLU: tl.constexpr, SQUARED: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Program: a tile of rows of one range (or more of them, that many programs apart), and all columns of y."""
    pdl.launch_dependents(PDL)
    first, step, end, which = share_of(tl.program_id(0), RANGES, ROWS)
    if PDL:
        prefetch_begin(weight, first, end, rows, K, SWIGLU, ROWS)
    pdl.wait(PDL)
    if source is not None:
        if tl.program_id(0) == tl.num_programs(0) - 1:
            copy(source, target, carried)
    b, k = tl.arange(0, COLUMNS), tl.arange(0, BLOCK)
    x = inputs + (which * batch + b)[None, :] * K
    for row in range(first, end, step):
        at, here = tile_rows(row, end, rows, SWIGLU, ROWS)
        w = weight + at.to(tl.int64)[:, None] * K
        sums = tl.zeros([2 * ROWS if SWIGLU else ROWS, COLUMNS], tl.float32)
        for begin in tl.range(0, K, BLOCK, num_stages=STAGES):
            column = begin + k
            left = tl.load(w + column[None, :], mask=here[:, None] & (column < K)[None, :], other=0.0)
            right = tl.load(x + column[:, None], mask=(column < K)[:, None] & (b < batch)[None, :], other=0.0)
            sums = tl.dot(left, right, sums)
        if SWIGLU:
            gate, up = tl.split(tl.trans(tl.reshape(sums, (2, ROWS, COLUMNS)), (1, 2, 0)))
            sums = gate * sigmoid(gate) * up
        if SQUARED:
            sums = tl.maximum(sums, 0.0)
            sums = sums * sums
        mine = row + tl.arange(0, ROWS)
        place = y + b[None, :].to(tl.int64) * rows + mine[:, None]
        tl.store(place, (scale * sums).to(y.dtype.element_ty), mask=(mine < end)[:, None] & (b < batch)[None, :])


@triton.jit
def prefetch_begin(weight, first, end, rows, K: tl.constexpr, SWIGLU: tl.constexpr, ROWS: tl.constexpr):
    """Have the first lines of a tile's rows brought to L2: about what memory gives while the inputs are made."""
    at, here = tile_rows(first, end, rows, SWIGLU, ROWS)
    column = tl.arange(0, LINES) * (LINE // (weight.dtype.element_ty.primitive_bitwidth // 8))
    inside = here[:, None] & (column < K)[None, :]
    place = weight + tl.where(inside, at.to(tl.int64)[:, None] * K + column[None, :], 0)
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;",
        constraints="=r,l",
        args=[place.to(tl.int64, bitcast=True)],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )
