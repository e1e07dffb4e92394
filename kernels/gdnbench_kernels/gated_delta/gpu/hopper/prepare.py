"""`prepare` for sm_90 in Gluon: short chains of dependent steps, and every tile in a layout that its reader wants.

Program (value head, chunk slot), four warps; warp w owns rows 16 w to 16 w + 15 of every [64, 64] tile:

    1. q, k are copied to shared memory while the gates are computed, one token per thread.
    2. q k^T and k k^T by wgmma, both operands in shared memory. While they run: norms of q and k, cumulative decay.
    3. P = scale (q k^T) D is stored; B = -tril(beta (k k^T) D, -1) is cut into 16 x 16 blocks, so T = (I - B)^-1.
    4. Td, the inverse of the blocks on the diagonal, by substitution: warp w solves block w, a column per thread.
    5. M = Td B_off, then T = (I + L) Td with L = M + L M: the four block columns of L from right to left.

    shared memory        shape                     written by                  read by
    queries, keys        [64, KP] type of q        copies from global memory   wgmma; norms, half a row per thread
    decay_at ... rk_at   [64] float32, five        steps 1 and 2               step 3, by row and by column of a tile
    blocks               [4, 16, 16] float32       step 3: [w, j, i] = B_ij    step 4: column j, the same for a warp
    B0, B1, B2           [64, 16] float16          step 3: block column v      step 5: warp w its block, right operand
    Td                   [64, 16] float16          step 4: transposed blocks   step 5: left operand (M), right one (T)
    M0, M1               [64, 16] float16          step 5: block column v      step 5: blocks below the diagonal
    P_tile, T_tile       [64, 64] type of q        steps 3 and 5               stores of 16 bytes per thread

P, B and L are in registers, in the layout of mma accumulators, which is also that of left operands: L never leaves
them. Nothing of the inverse but M crosses a warp. Buffers whose uses do not overlap share memory (by the compiler).
"""

from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    async_copy,
    fence_async_shared,
    mma_v2,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from gdnbench_kernels.gated_delta.gpu import gates
from gdnbench_kernels.gated_delta.gpu.layout import CHUNK, Layout, cdiv, locate_chunk, strides
from gdnbench_kernels.launching import launch

WARPS = 4  # a warpgroup: 16 of 64 rows each

REGISTERS = 128  # of a thread: four programs share an SM

# Slots along the second axis of the grid, which ends at 65,535; the third axis takes the rest.
SLOTS = 32_768

# Accumulators of wgmma [64, 64], of mma.sync [64, 16] and, one block for each warp, [4, 16, 16]: the same registers.
TILE = gl.constexpr(gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, 64, 16]))
BLOCK_COLUMN = gl.constexpr(gl.NVMMADistributedLayout([2, 0], [WARPS, 1], [16, 8]))
OWN_BLOCK = gl.constexpr(gl.NVMMADistributedLayout([2, 0], [WARPS, 1, 1], [1, 16, 8]))
LEFT = gl.constexpr(gl.DotOperandLayout(0, BLOCK_COLUMN, 2))
RIGHT = gl.constexpr(gl.DotOperandLayout(1, BLOCK_COLUMN, 2))
OWN_LEFT = gl.constexpr(gl.DotOperandLayout(0, OWN_BLOCK, 2))
OWN_RIGHT = gl.constexpr(gl.DotOperandLayout(1, OWN_BLOCK, 2))

TOKEN = gl.constexpr(gl.BlockedLayout([1], [32], [WARPS], [0]))  # a token per thread, by two warps each
SCAN = gl.constexpr(gl.BlockedLayout([2], [32], [WARPS], [0]))  # all 64 tokens in each warp
SOLVE = gl.constexpr(gl.BlockedLayout([1, 1, 16], [1, 32, 1], [WARPS, 1, 1], [2, 1, 0]))  # [block, column, row]
WIDE = gl.constexpr(gl.BlockedLayout([1, 8], [4, 8], [WARPS, 1], [1, 0]))  # 16 bytes per thread of a [64, 64] tile
HALF_ROW = gl.constexpr(gl.BlockedLayout([1, 8], [16, 2], [WARPS, 1], [0, 1]))  # two threads per row

PLAIN = gl.constexpr(gl.SwizzledSharedLayout(1, 1, 1, [0]))
PLAIN_3D = gl.constexpr(gl.SwizzledSharedLayout(1, 1, 1, [2, 1, 0]))
BLOCKS = gl.constexpr(gl.SwizzledSharedLayout(8, 4, 2, [1, 0]))  # rows of 32 bytes, eight of them without conflict


def run(
    layout: Layout,
    *,
    q: Tensor,
    k: Tensor,
    g: Tensor,
    beta: Tensor,
    scale: float,
    inverse: Tensor,
    attention: Tensor,
    rows: Tensor,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    gate_scale: float = 1.0,
    beta_range: float | None = None,
    normalize: bool = False,
) -> None:
    """Fill ``inverse``, ``attention`` and ``rows``: `gated_delta.gpu.prepare.run` for sm_90.

    Args:
        layout, q, k, g, beta, scale, inverse, attention, rows, A_log, dt_bias, gate_scale, beta_range, normalize: as
            there; ``q, k`` are as `choice.movable` gives them.
    """
    launch(
        prepare_kernel,
        (layout.value_heads, min(layout.chunks, SLOTS), cdiv(layout.chunks, SLOTS)),
        q=q,
        k=k,
        g=g,
        beta=beta,
        A_log=A_log,
        dt_bias=dt_bias,
        inverse=inverse,
        attention=attention,
        rows=rows,
        **strides(q=q, k=k, g=g, beta=beta),
        T=layout.time,
        slots=layout.chunks,
        cu_seqlens=layout.cu_seqlens,
        chunk_starts=layout.chunk_starts,
        chunk_sequence=layout.chunk_sequence,
        scale=float(scale),
        gate_scale=float(gate_scale),
        beta_range=beta_range,
        C=CHUNK,
        K=layout.key_dim,
        KP=1 << (layout.key_dim - 1).bit_length(),
        R=rows.shape[2],
        GROUP=layout.value_heads // layout.heads,
        NORMALIZE=normalize,
        num_warps=WARPS,
        maxnreg=REGISTERS,
    )


@gluon.jit(do_not_specialize=["T", "slots", "scale", "gate_scale"])
def prepare_kernel(
    q, k, g, beta, A_log, dt_bias, inverse, attention, rows,
    q_sb, q_st, q_sh, k_sb, k_st, k_sh, g_sb, g_st, g_sh, beta_sb, beta_st, beta_sh,
    T, slots, cu_seqlens, chunk_starts, chunk_sequence, scale, gate_scale, beta_range,
    C: gl.constexpr, K: gl.constexpr, KP: gl.constexpr, R: gl.constexpr, GROUP: gl.constexpr, NORMALIZE: gl.constexpr,
):  # fmt: skip
    """Program (value head, slot): one chunk of one head; steps and tiles as in the module's map."""
    type: gl.constexpr = k.dtype.element_ty
    head = gl.program_id(0)
    slot = gl.program_id(2) * gl.num_programs(1) + gl.program_id(1)
    if slot >= slots:
        return
    batch, first, count = locate_chunk(slot, T, cu_seqlens, chunk_starts, chunk_sequence, C)
    if count <= 0:
        return
    batch = batch.to(gl.int64)
    first = first.to(gl.int64)
    chunk = slot.to(gl.int64) * gl.num_programs(0) + head

    # 1. Copies, then gates. The barrier, which no load crosses, keeps the compiler from putting copies behind the
    # arithmetic of the gates.
    OPERAND: gl.constexpr = gl.NVMMASharedLayout.get_default_for([C, KP], type)
    keys = gl.allocate_shared_memory(type, [C, KP], OPERAND)
    queries = gl.allocate_shared_memory(type, [C, KP], OPERAND)
    copy_rows(keys, k + (batch * k_sb + first * k_st + (head // GROUP) * k_sh), k_st, count, K)
    copy_rows(queries, q + (batch * q_sb + first * q_st + (head // GROUP) * q_sh), q_st, count, K)
    async_copy.commit_group()
    gl.thread_barrier()

    t = gl.arange(0, C, TOKEN)
    here = t < count
    a = gl.load(g + (batch * g_sb + first * g_st + head * g_sh) + t * g_st, mask=here, other=0.0).to(gl.float32)
    b = gl.load(beta + (batch * beta_sb + first * beta_st + head * beta_sh) + t * beta_st, mask=here, other=0.0)
    b = b.to(gl.float32)
    # Memory that is given out together is not shared, and then needs no barrier between one use and the next.
    gates_at = gl.allocate_shared_memory(gl.float32, [C], PLAIN)
    decay_at = gl.allocate_shared_memory(gl.float32, [C], PLAIN)
    beta_at = gl.allocate_shared_memory(gl.float32, [C], PLAIN)
    rq_at = gl.allocate_shared_memory(gl.float32, [C], PLAIN)
    rk_at = gl.allocate_shared_memory(gl.float32, [C], PLAIN)
    if A_log is not None:
        a = gates.log_decay(a, gl.load(A_log + head), gl.load(dt_bias + head), gate_scale)
    b = gl.where(here, gates.writing_strength(b, gate_scale, beta_range), 0.0)
    gates_at.store(gl.where(here, a, 0.0))
    beta_at.store(b)

    # 2. Products; norms and cumulative decay beside them.
    async_copy.wait_group(0)
    gl.thread_barrier()
    fence_async_shared()
    zeros = gl.zeros([C, C], gl.float32, TILE)
    kk = warpgroup_mma(keys, keys.permute((1, 0)), zeros, use_acc=False, is_async=True)
    qk = warpgroup_mma(queries, keys.permute((1, 0)), zeros, use_acc=False, is_async=True)
    decay_at.store(gl.associative_scan(gates_at.load(SCAN), 0, add) * gates.LOG2E)
    if NORMALIZE:
        rk_at.store(gl.rsqrt(squares(keys) + gates.L2_EPS))
        rq_at.store(gl.rsqrt(squares(queries) + gates.L2_EPS))
    elif R == 6:
        rk_at.store(squares(keys))

    # 3. Row factors, P and B. The exponent is masked: above the diagonal the difference is positive and may overflow.
    decay = decay_at.load(TOKEN)
    e = gl.exp2(decay)
    recall = b * e
    read = gl.where(here, scale * e, 0.0)
    write = gl.where(here, gl.exp2(decay_at.slice(C - 1, 1).load(TOKEN) - decay), 0.0)
    rows += chunk * (R * C)
    if NORMALIZE:
        rq = rq_at.load(TOKEN)
        rk = rk_at.load(TOKEN)
        recall *= rk
        read *= rq
        write *= rk
        gl.store(rows + 5 * C + t, rq)
        gl.store(rows + 6 * C + t, rk)
    elif R == 6:
        gl.store(rows + 5 * C + t, gates.log_growth(b, rk_at.load(TOKEN)))
    gl.store(rows + t, b)
    gl.store(rows + C + t, recall)
    gl.store(rows + 2 * C + t, read)
    gl.store(rows + 3 * C + t, write)
    gl.store(rows + 4 * C + t, decay)

    i = by_row(gl.arange(0, C, gl.SliceLayout(1, TILE)))
    j = by_column(gl.arange(0, C, gl.SliceLayout(0, TILE)))
    D = by_row(decay_at.load(gl.SliceLayout(1, TILE))) - by_column(decay_at.load(gl.SliceLayout(0, TILE)))
    D = gl.exp2(gl.where(i >= j, D, float("-inf")))
    P_factor = scale
    B_factor = -beta_at.load(gl.SliceLayout(1, TILE))
    if NORMALIZE:
        D *= by_column(rk_at.load(gl.SliceLayout(0, TILE)))
        P_factor = by_row(scale * rq_at.load(gl.SliceLayout(1, TILE)))
        B_factor *= rk_at.load(gl.SliceLayout(1, TILE))
    # The operands are listed because their memory serves other tiles from here on: not before the products are done,
    # in all warps.
    kk, qk, keys, queries = warpgroup_mma_wait(0, deps=[kk, qk, keys, queries])
    gl.thread_barrier()
    RESULT: gl.constexpr = gl.NVMMASharedLayout.get_default_for([C, C], type)
    P_tile = gl.allocate_shared_memory(type, [C, C], RESULT)
    P_tile.store((qk * D * P_factor).to(type))
    b0, b1, b2, b3 = block_columns(kk * D * by_row(B_factor))

    w = by_row(gl.arange(0, C, gl.SliceLayout(1, BLOCK_COLUMN)) // 16)
    B0 = gl.allocate_shared_memory(gl.float16, [C, 16], BLOCKS)
    B1 = gl.allocate_shared_memory(gl.float16, [C, 16], BLOCKS)
    B2 = gl.allocate_shared_memory(gl.float16, [C, 16], BLOCKS)
    B0.store(gl.where(w > 0, b0, 0.0).to(gl.float16))
    B1.store(gl.where(w > 1, b1, 0.0).to(gl.float16))
    B2.store(gl.where(w > 2, b2, 0.0).to(gl.float16))
    blocks = gl.allocate_shared_memory(gl.float32, [4, 16, 16], PLAIN_3D)
    diagonal = gl.where(w < 2, gl.where(w == 0, b0, b1), gl.where(w == 2, b2, b3))
    blocks.store(diagonal.reshape([4, 16, 16]).permute([0, 2, 1]))
    at = chunk * (C * C) + by_row(gl.arange(0, C, gl.SliceLayout(1, WIDE))) * C
    at += by_column(gl.arange(0, C, gl.SliceLayout(0, WIDE)))
    gl.store(attention + at, P_tile.load(WIDE))

    # 4. and 5.
    Td = gl.allocate_shared_memory(gl.float16, [C, 16], BLOCKS)
    Td.store(solve(blocks).to(gl.float16).reshape([C, 16]))
    T_tile = gl.allocate_shared_memory(type, [C, C], RESULT)
    T_tile.store(merge(Td, B0, B1, B2, C).to(type))
    gl.store(inverse + at, T_tile.load(WIDE))


@gluon.jit
def copy_rows(tile, source, stride, count, K: gl.constexpr):
    """Start to copy ``count`` rows of K numbers, ``stride`` apart, to shared memory; the rest of the tile is zeroed."""
    C: gl.constexpr = tile.shape[0]
    KP: gl.constexpr = tile.shape[1]
    LAYOUT: gl.constexpr = gl.BlockedLayout([1, 8], [256 // KP, KP // 8], [4, 1], [1, 0])
    r = by_row(gl.arange(0, C, gl.SliceLayout(1, LAYOUT)))
    c = by_column(gl.arange(0, KP, gl.SliceLayout(0, LAYOUT)))
    # `choice.movable` has seen to it that rows begin at multiples of 8 numbers.
    at = gl.multiple_of(source + gl.multiple_of(r * stride + c, [1, 8]), [1, 16])
    async_copy.async_copy_global_to_shared(tile, at, (r < count) & (c < K))


@gluon.jit
def squares(tile):
    """Return the sum of squares of the rows of a tile of shared memory."""
    x = tile.load(HALF_ROW).to(gl.float32)
    return gl.sum(x * x, 1)


@gluon.jit
def solve(blocks):
    """Return the inverses of ``I - block`` for four strictly lower triangular blocks, as [block, column, row].

    A thread holds a column of the inverse, so that ``i`` and ``j`` below are known to the compiler: selects vanish,
    and what stays is one multiplication and addition for each ``i > j``.
    """
    column = gl.arange(0, 16, gl.SliceLayout(0, gl.SliceLayout(2, SOLVE)))
    row = gl.arange(0, 16, gl.SliceLayout(0, gl.SliceLayout(1, SOLVE)))
    column = gl.expand_dims(gl.expand_dims(column, 0), 2)
    row = gl.expand_dims(gl.expand_dims(row, 0), 1)
    X = gl.where(column == row, gl.full([4, 16, 16], 1.0, gl.float32, SOLVE), 0.0)
    for j in gl.static_range(15):
        # Row j is final; a sum of bits rather than numbers, for the compiler knows that x ^ 0 is x.
        bits = gl.where(row == j, X.to(gl.int32, bitcast=True), 0)
        final = gl.expand_dims(gl.xor_sum(bits, 2).to(gl.float32, bitcast=True), 2)
        X = gl.where(row > j, X + blocks.slice(j, 1, dim=1).load(SOLVE) * final, X)
    return X


@gluon.jit
def merge(Td, B0, B1, B2, C: gl.constexpr):
    """Return ``T [C, C]`` from the transposed blocks of ``Td`` and the block columns of ``B_off`` in shared memory."""
    M0 = gl.allocate_shared_memory(gl.float16, [C, 16], BLOCKS)
    M1 = gl.allocate_shared_memory(gl.float16, [C, 16], BLOCKS)
    none = gl.zeros([4, 16, 16], gl.float32, OWN_BLOCK)
    Td_own = Td.reshape([4, 16, 16]).permute((0, 2, 1)).load(OWN_LEFT)
    m0 = mma_v2(Td_own, B0.reshape([4, 16, 16]).load(OWN_RIGHT), none)
    m1 = mma_v2(Td_own, B1.reshape([4, 16, 16]).load(OWN_RIGHT), none)
    m2 = mma_v2(Td_own, B2.reshape([4, 16, 16]).load(OWN_RIGHT), none)
    M0.store(m0.to(gl.float16).reshape([C, 16]))
    M1.store(m1.to(gl.float16).reshape([C, 16]))

    # L = M + L M by block columns, from the last but one (the last is zero) to the first.
    l2 = left_operand(block_column(m2, C))
    l1 = left_operand(mma_v2(l2, M1.slice(32, 16).load(RIGHT), block_column(m1, C)))
    l0 = mma_v2(l2, M0.slice(32, 16).load(RIGHT), block_column(m0, C))
    l0 = left_operand(mma_v2(l1, M0.slice(16, 16).load(RIGHT), l0))

    # T = Td + L Td, block column by block column.
    own = block_column(Td_own.to(gl.float32), C)
    w = by_row(gl.arange(0, C, gl.SliceLayout(1, BLOCK_COLUMN)) // 16)
    t0 = mma_v2(l0, Td.slice(0, 16).permute((1, 0)).load(RIGHT), gl.where(w == 0, own, 0.0))
    t1 = mma_v2(l1, Td.slice(16, 16).permute((1, 0)).load(RIGHT), gl.where(w == 1, own, 0.0))
    t2 = mma_v2(l2, Td.slice(32, 16).permute((1, 0)).load(RIGHT), gl.where(w == 2, own, 0.0))
    t3 = gl.where(w == 3, own, 0.0)
    return gl.join(gl.join(t0, t1), gl.join(t2, t3)).permute([0, 3, 2, 1]).reshape([C, C])


@gluon.jit
def block_columns(x):
    """Return the four block columns [64, 16] of ``x [64, 64]``; no number leaves its register."""
    left, right = gl.split(x.reshape([64, 2, 2, 16]).permute([0, 3, 2, 1]))
    x0, x1 = gl.split(left)
    x2, x3 = gl.split(right)
    return block_column(x0, 64), block_column(x1, 64), block_column(x2, 64), block_column(x3, 64)


@gluon.jit
def block_column(x, C: gl.constexpr):
    """Return ``x`` as the accumulator of a block column."""
    return gl.convert_layout(x.reshape([C, 16]), BLOCK_COLUMN)


@gluon.jit
def left_operand(x):
    """Return an accumulator as left operand of the next product, in the registers where it lies."""
    return gl.convert_layout(x.to(gl.float16), LEFT)


@gluon.jit
def by_row(x):
    """Return ``x [N]`` as ``[N, 1]``."""
    return gl.expand_dims(x, 1)


@gluon.jit
def by_column(x):
    """Return ``x [N]`` as ``[1, N]``."""
    return gl.expand_dims(x, 0)


@gluon.jit
def add(x, y):
    """Return the sum: what a scan combines by."""
    return x + y
