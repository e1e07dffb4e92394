"""`several` for sm_90 in Gluon: weights are on their way to shared memory before the inputs are there.

A product of several rows comes behind a kernel that makes its inputs, and often behind one that adds up another's sums:
memory would be idle meanwhile. Here the ring of STAGES blocks is filled with weights first; then the program waits for
the kernels before, and copies the inputs' blocks. A block is multiplied as soon as it is there, and its place is given
to a later one an iteration after that, when all warps have passed a barrier anyway.

    shared memory       shape                             filled by              read by
    weights             [STAGES, PARTS, ROWS, BLOCK]      cp.async, all threads  products, left operand
    values              [STAGES, COLUMNS, BLOCK]          cp.async, all threads  products, right operand, transposed

With swiglu a row's gate and the row itself are two PARTS, with sums of their own in the same threads. What lies beyond
a program's rows, its columns or the batch is zero.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    async_copy,
    fence_async_shared,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from gdnbench_kernels.fused_linear.gpu.few import copy
from gdnbench_kernels.fused_linear.gpu.parts import part_of
from gdnbench_kernels.gpu import pdl
from gdnbench_kernels.gpu.activations import relu2, silu


@gluon.jit(do_not_specialize=["carried", "scale", "batch"])
def fused_linear_hopper_kernel(
    inputs, weight, y, source, target, carried, batch, scale, rows,
    K: gl.constexpr, RANGES: gl.constexpr, SWIGLU: gl.constexpr, SQUARED: gl.constexpr, ROWS: gl.constexpr,
    COLUMNS: gl.constexpr, SPLIT: gl.constexpr, BLOCK: gl.constexpr, STAGES: gl.constexpr, PDL: gl.constexpr,
    num_warps: gl.constexpr,
):  # fmt: skip
    """Program: some rows of one range and, of so many splits, one's columns; all columns of y ``[splits, B, rows]``."""
    TYPE: gl.constexpr = weight.dtype.element_ty
    PARTS: gl.constexpr = 2 if SWIGLU else 1
    # What adds up parts is a small kernel: it may start at once. Others would hold what they load in an SM whose first
    # cache is as small as this kernel's rings leave it, and keep it so.
    if SPLIT < K:
        pdl.launch_dependents(PDL)
    first, end, which = part_of(gl.program_id(0), RANGES)
    begin = gl.program_id(1) * SPLIT
    stop = min(begin + SPLIT, K)
    LEFT: gl.constexpr = gl.NVMMASharedLayout.get_default_for([ROWS, BLOCK], TYPE)
    RIGHT: gl.constexpr = gl.NVMMASharedLayout.get_default_for([COLUMNS, BLOCK], TYPE)
    weights = gl.allocate_shared_memory(TYPE, [STAGES * PARTS, ROWS, BLOCK], LEFT)
    values = gl.allocate_shared_memory(TYPE, [STAGES, COLUMNS, BLOCK], RIGHT)

    w = weight + first.to(gl.int64) * K
    x = inputs + which.to(gl.int64) * batch * K
    for i in gl.static_range(STAGES):
        copy_weights(weights, i, w, begin + i * BLOCK, stop, end - first, rows, K, PARTS, num_warps)
        async_copy.commit_group()
    pdl.wait(PDL)
    for i in gl.static_range(STAGES):
        copy_block(values.index(i), x, begin + i * BLOCK, stop, batch, K, num_warps)
        async_copy.commit_group()
    if source is not None:
        if gl.program_id(0) + gl.program_id(1) == 0:
            copy(source, target, carried)

    WARPS: gl.constexpr = [num_warps, 1] if ROWS == 16 * num_warps else [4, num_warps // 4]
    SUMS: gl.constexpr = gl.NVMMADistributedLayout([3, 0], WARPS, [16, COLUMNS // WARPS[1], 16])
    sums = gl.zeros([ROWS, COLUMNS], gl.float32, SUMS)
    ups = sums
    for i in range(gl.cdiv(stop - begin, BLOCK)):
        slot = i % STAGES
        # All but the last STAGES - 2 blocks have arrived, this thread's part of them; the barrier: everyone's.
        async_copy.wait_group(STAGES - 2)
        gl.thread_barrier()
        fence_async_shared()
        right = values.index(slot).permute((1, 0))
        sums = warpgroup_mma(weights.index(slot * PARTS), right, sums, is_async=True)
        if SWIGLU:
            ups = warpgroup_mma(weights.index(slot * PARTS + 1), right, ups, is_async=True)
        if i > 0:  # the block before this one has been multiplied by all
            later = begin + (i - 1 + STAGES) * BLOCK
            if later < stop:
                free = (i - 1) % STAGES
                copy_weights(weights, free, w, later, stop, end - first, rows, K, PARTS, num_warps)
                copy_block(values.index(free), x, later, stop, batch, K, num_warps)
        async_copy.commit_group()
        if SWIGLU:
            sums, ups = warpgroup_mma_wait(0, deps=[sums, ups])
        else:
            sums = warpgroup_mma_wait(0, deps=[sums])
    if SPLIT >= K:
        pdl.launch_dependents(PDL)
    # The ring's memory serves the exchange below from here on: not before all is there and read, by all warps.
    async_copy.wait_group(0)
    gl.thread_barrier()

    if SWIGLU:
        sums = silu(sums) * ups
    if SQUARED:
        sums = relu2(sums)
    OUT: gl.constexpr = gl.BlockedLayout([1, 1], [32, 1], [1, num_warps], [0, 1])
    made = gl.convert_layout((scale * sums).to(y.dtype.element_ty), OUT)
    row = gl.expand_dims(first + gl.arange(0, ROWS, gl.SliceLayout(1, OUT)), 1)
    b = gl.expand_dims(gl.arange(0, COLUMNS, gl.SliceLayout(0, OUT)), 0)
    place = y + (gl.program_id(1) * batch + b).to(gl.int64) * rows + row
    gl.store(place, made, mask=(row < end) & (b < batch))


@gluon.jit
def copy_weights(
    ring, slot, weight, column, stop, count, rows, K: gl.constexpr, PARTS: gl.constexpr, num_warps: gl.constexpr
):
    """Start to copy a block of columns of a program's rows, with two parts of the rows ``rows`` further, too."""
    for part in gl.static_range(PARTS):
        copy_block(
            ring.index(slot * PARTS + part),
            weight + part * gl.cast(rows, gl.int64) * K,
            column,
            stop,
            count,
            K,
            num_warps,
        )


@gluon.jit
def copy_block(tile, source, column, stop, count, K: gl.constexpr, num_warps: gl.constexpr):
    """Start to copy columns up to ``stop`` of ``count`` rows of K numbers; the rest of the tile becomes zero."""
    ROWS: gl.constexpr = tile.shape[0]
    BLOCK: gl.constexpr = tile.shape[1]
    LAYOUT: gl.constexpr = gl.BlockedLayout([1, 8], [256 // BLOCK, BLOCK // 8], [num_warps, 1], [1, 0])
    r = gl.expand_dims(gl.arange(0, ROWS, gl.SliceLayout(1, LAYOUT)), 1)
    c = gl.expand_dims(column + gl.arange(0, BLOCK, gl.SliceLayout(0, LAYOUT)), 0)
    at = gl.multiple_of(source + gl.multiple_of(r * K + c, [1, 8]), [1, 16])
    async_copy.async_copy_global_to_shared(tile, at, (r < count) & (c < stop))
