"""The product of several rows, by tensor cores in one kernel: weights are the left operand, all rows the right one.

Rows' inputs are made before, once (`many.prepared`): all programs read them, from L2. So that memory is busy all over
the chip, and all the time, programs have equally many rows of the matrix, which may be fewer than their tiles have
room for; of a matrix of few rows each has more rows, but only some columns, and the sums are added up by a kernel more.
Each program begins to bring its weights to L2 before it waits for the inputs; on a Hopper to shared memory (`hopper`).
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.fused_linear.api import Output
from gdnbench_kernels.fused_linear.gpu.few import carried, copy, tile_rows
from gdnbench_kernels.fused_linear.gpu.hopper import fused_linear_hopper_kernel
from gdnbench_kernels.fused_linear.gpu.output import finished
from gdnbench_kernels.fused_linear.gpu.parts import part_of, parts
from gdnbench_kernels.gpu import hardware, pdl
from gdnbench_kernels.gpu.activations import relu2, silu
from gdnbench_kernels.gpu.prefetching import prefetch
from gdnbench_kernels.launching import arch_of, launch

# Of each row's weights, brought to L2 before the inputs are there: lines, and bytes of one. More would be in the way of
# the kernel that makes the inputs.
LINES, LINE = tl.constexpr(4), tl.constexpr(128)


@dataclass(frozen=True, kw_only=True)
class DotTile:
    """How a matrix is cut.

    Attributes:
        programs: on each SM; more of them, in turn, where their rows are more than ROWS.
        ROWS: of the matrix, the most that a program takes.
        BLOCK: columns at once.
        STAGES: blocks in use and on their way.
        splits: programs that share a row of the matrix.
        num_warps: of a program.
    """

    programs: int = 1
    ROWS: int = 128
    BLOCK: int = 128
    STAGES: int = 4
    splits: int = 1
    num_warps: int = 8


HOPPER = 90  # compute capability
# Found by search on an H200 over the models' shapes, with 8 and 64 inputs.
SHORT = 32  # rows of the matrix for each SM: fewer are taken by several programs each
LEAST_COLUMNS = 256  # of such a program
SHARED_BYTES, MOST_STAGES = 200 * 1024, 8  # of an SM, for blocks on their way
LEAST_STAGES = 3  # where a GPU has less shared memory, blocks are smaller instead


def tile(batch: int, rows: int, width: int, processors: int, *, shared: int, paired: bool = False) -> DotTile:
    """Return the tile for a matrix ``[rows, width]`` of halves and so many inputs.

    ``shared``: bytes of shared memory that a program may have. ``paired``: a row of y takes two of the matrix, which
    lie in one program.
    """
    splits = 1
    while rows * splits < SHORT * processors and width >= 2 * splits * LEAST_COLUMNS:
        splits *= 2
    height = triton.cdiv(rows * splits, processors)
    low, high = height <= 64 and not (paired and splits == 1), height > 128
    most, block, programs = 64 if low else 128, 64 if high else 128, 2 if high else 1
    room = min(SHARED_BYTES, shared) // programs // ((most + columns(batch)) * 2)  # columns on their way
    while room < LEAST_STAGES * block:
        block //= 2
    return DotTile(
        programs=programs,
        ROWS=most,
        BLOCK=block,
        STAGES=min(MOST_STAGES, room // block),
        splits=splits,
        num_warps=4 if low else 8,
    )


def columns(batch: int) -> int:
    """Return for how many inputs a product is made."""
    return max(16, triton.next_power_of_2(batch))


def product(inputs: Tensor, weight: Tensor, wanted: Output) -> Tensor:
    """Return y for inputs ``[M, B, K]`` of the M ranges of rows; in parts where that is wanted."""
    processors = hardware.processors(inputs.device)
    height, width = weight.shape
    swiglu = wanted.activation == "swiglu"
    shared = hardware.shared_limit(inputs.device)
    chosen = tile(inputs.shape[1], height, width, processors, shared=shared, paired=swiglu)
    alone = chosen.splits == 1
    swiglu &= alone
    rows, most = height // (1 + swiglu), chosen.ROWS // (1 + swiglu)
    ranges, programs = parts(wanted.mix_rows or (rows,), max(1, chosen.programs * processors // chosen.splits), most)
    made = weight.new_empty(chosen.splits, inputs.shape[1], rows, dtype=wanted.dtype if alone else torch.float32)
    launch(
        fused_linear_hopper_kernel if _serves(inputs, weight) else fused_linear_dot_kernel,
        (programs, chosen.splits),
        inputs=inputs,
        weight=weight,
        y=made,
        **carried(wanted),
        batch=inputs.shape[1],
        scale=wanted.scale if alone or wanted.parts else 1.0,
        rows=rows,
        K=width,
        RANGES=ranges,
        SWIGLU=swiglu,
        SQUARED=alone and wanted.activation == "relu2",
        ROWS=most,
        COLUMNS=columns(inputs.shape[1]),
        SPLIT=triton.cdiv(width, chosen.BLOCK * chosen.splits) * chosen.BLOCK,
        BLOCK=chosen.BLOCK,
        STAGES=chosen.STAGES,
        num_warps=chosen.num_warps,
        **pdl.overlapping(inputs.device),
    )
    if alone:
        return made[0]
    return made if wanted.parts else finished(made, wanted)


def _serves(*operands: Tensor) -> bool:
    """Return whether `hopper` does: its copies move 16 bytes."""
    return arch_of(operands[0].device) == HOPPER and all(x.data_ptr() % 16 == 0 for x in operands)


@triton.jit(do_not_specialize=["carried", "scale", "batch"])
def fused_linear_dot_kernel(
    inputs, weight, y, source, target, carried, batch, scale, rows,
    K: tl.constexpr, RANGES: tl.constexpr, SWIGLU: tl.constexpr, SQUARED: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, SPLIT: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Program: some rows of one range and, of so many splits, one's columns; all columns of y ``[splits, B, rows]``."""
    pdl.launch_dependents(PDL)
    first, end, which = part_of(tl.program_id(0), RANGES)
    begin = tl.program_id(1) * SPLIT
    at, here = tile_rows(first, end, rows, SWIGLU, ROWS)
    w = weight + at.to(tl.int64)[:, None] * K
    if PDL:
        bring(w, here, begin, K)
    pdl.wait(PDL)
    if source is not None:
        if tl.program_id(0) + tl.program_id(1) == 0:
            copy(source, target, carried)
    b, k = tl.arange(0, COLUMNS), tl.arange(0, BLOCK)
    x = inputs + (which * batch + b)[None, :] * K
    sums = tl.zeros([2 * ROWS if SWIGLU else ROWS, COLUMNS], tl.float32)
    for start in tl.range(begin, min(begin + SPLIT, K), BLOCK, num_stages=STAGES):
        column = start + k
        left = tl.load(w + column[None, :], mask=here[:, None] & (column < K)[None, :], other=0.0)
        right = tl.load(x + column[:, None], mask=(column < K)[:, None] & (b < batch)[None, :], other=0.0)
        sums = tl.dot(left, right, sums)
    if SWIGLU:
        gate, up = tl.split(tl.trans(tl.reshape(sums, (2, ROWS, COLUMNS)), (1, 2, 0)))
        sums = silu(gate) * up
    if SQUARED:
        sums = relu2(sums)
    mine = first + tl.arange(0, ROWS)
    place = y + (tl.program_id(1) * batch + b)[None, :].to(tl.int64) * rows + mine[:, None]
    tl.store(place, (scale * sums).to(y.dtype.element_ty), mask=(mine < end)[:, None] & (b < batch)[None, :])


@triton.jit
def bring(rows, here, begin, K: tl.constexpr):
    """Have the first lines of rows brought to L2."""
    column = begin + tl.arange(0, LINES) * (LINE // (rows.dtype.element_ty.primitive_bitwidth // 8))
    prefetch(rows + column[None, :], here[:, None] & (column < K)[None, :])
