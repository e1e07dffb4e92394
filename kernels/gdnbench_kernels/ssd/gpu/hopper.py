"""`gradients` for sm_90 in Gluon: one warpgroup makes dc, another db and dx, a warp the gates; a loader runs ahead.

The math is that of `ssd.gpu.gradients`. Here a token is a row of every accumulator, so that a sum over K or V stays
among four threads, a computed left operand is the accumulator as it lies, and dq, dk leave as they are.

    queries   q S,  dP = dO v^T,  dq += (read * dO) S^T;  dPs and W from dP;  at the end dq += dPs k
    keys      k dS,  dk += (write * beta * v) dS^T,  dv = beta dX,  dX . v,  <S, dS>;  at the end dk += dPs^T q

An item of work is a chunk and some heads of a group; as many programs as the GPU holds take items in turn. Each has

    warps             work                                    registers (float32 unless it says half)
    queries           a loop over heads and tiles of V        dq [64, BK]; dPs_sum, qk, q S, dP [64, 64];
    (a warpgroup)                                             half, as left operand: read * dO
    keys              a loop over heads and tiles of V        dk [64, BK]; k dS [64, 64];
    (a warpgroup)                                             half, as left operand: write * beta * v
    gates (1 warp)    dg, dbeta of a head from both's sums    two tokens a thread
    loader (1 warp)   TMA loads: the next heads, q and k      -

    shared memory              shape                        filled by      read by
    do_ring, v_ring            [STAGES, 64, VB]             loader         products; both, as left operand or for sums
    dx_ring                    [STAGES, 64, VB]             loader         keys: dX . v
      and then the same                                     keys           TMA store of dv
    s_ring, ds_ring            [STAGES, BK, VB]             loader         products; keys: <S, dS>
    row_ring                   [STAGES * 4, 64] float32     loader         beta, read, write, decay by token
    q_ring, k_ring             [KEY_STAGES, 64, BK]         loader         products, as left and as right operand
    dPs_tile                   [64, 64]                     queries        keys: left operand, transposed
    sums_at, s_ds_at           [4, 64], [BK] float32        both           gates
    columns_at                 [4, 64] float32              queries        gates: sums over rows of W, warp by warp
    dq_tile, dk_tile           [64, BK]                     queries, keys  TMA stores

    barriers                   a phase ends when
    full, empty                a stage's tiles have arrived; both warpgroups have done with them
    keys_full, keys_empty      the same for q and k
    hands                      dPs_tile is written, is free; the sums of queries, of keys are written, are taken

At K = 128, V = 64 two stages take 114 KB, q and k 64, dq and dk 32, dPs 8. What lies beyond K, V or T loads as zero and
is not stored.
"""

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from gdnbench_kernels.gated_delta.gpu.hopper.warpgroups import SMS, allocate, descriptor, registers, store_tokens
from gdnbench_kernels.gated_delta.gpu.layout import CHUNK, ROWS, Layout, cdiv
from gdnbench_kernels.launching import launch
from gdnbench_kernels.ssd.gpu import gradients

WIDEST_KEYS = 128  # one program sees all of K
VALUE_WIDTH = 64
STAGES = 2
KEY_STAGES = 2
QUERIES_REGISTERS, SMALL_REGISTERS = 240, 40  # of a thread of queries, of loader and gates; keys has what is left

# Row factors in the order they have in `row_ring`, and their places in `layout.ROWS`.
BETA, READ, WRITE, DECAY = (gl.constexpr(i) for i in range(4))
FACTORS = gl.constexpr(tuple(ROWS.index(name) for name in ("beta", "read", "write", "decay")))

# Sums by token, and the barriers between warps, by their place in shared memory.
HAVE_READ, W_ROWS, HAVE_WRITTEN, DX_V = (gl.constexpr(i) for i in range(4))
DPS_WRITTEN, DPS_TAKEN, QUERIES_SUMMED, KEYS_SUMMED, SUMS_TAKEN = (gl.constexpr(i) for i in range(5))

SCAN = gl.constexpr(gl.BlockedLayout([2], [32], [1], [0]))  # 64 tokens in a warp
BY_WARP = gl.constexpr(gl.BlockedLayout([4, 2], [1, 32], [1, 1], [1, 0]))  # four times as many
PLAIN = gl.constexpr(gl.SwizzledSharedLayout(1, 1, 1, [0]))
PLAIN_2D = gl.constexpr(gl.SwizzledSharedLayout(1, 1, 1, [1, 0]))


def tiles(layout: Layout, device: torch.device) -> tuple[int, int]:
    """Return the tiles of K and of V, as `gradients.tiles`."""
    return 1, cdiv(layout.value_dim, VALUE_WIDTH)


def run(
    layout: Layout,
    *,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    do: Tensor,
    dx: Tensor,
    states: Tensor,
    dstates: Tensor,
    rows: Tensor,
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    dg: Tensor,
    dbeta: Tensor,
) -> None:
    """Write the gradients of the arguments: `gradients.run` for sm_90 and K up to `WIDEST_KEYS`.

    Args:
        layout, q, k, v, do, dx, states, dstates, rows, dq, dk, dv, dg, dbeta: as there; ``q, k, v, do, dx`` are as
            `choice.movable` gives them.
    """
    key_width = max(32, 1 << (layout.key_dim - 1).bit_length())
    items = layout.chunks * layout.heads * gradients.parts(layout)
    at_launch, _ = registers(2, 1)
    key_tile = [1, CHUNK, 1, key_width]
    value_tile = [1, CHUNK, 1, VALUE_WIDTH]
    state_tile = [1, key_width, VALUE_WIDTH]
    launch(
        gradients_kernel,
        (min(items, SMS),),
        q=descriptor(q, key_tile),
        k=descriptor(k, key_tile),
        v=descriptor(v, value_tile),
        do=descriptor(do, value_tile),
        dx=descriptor(dx, value_tile),
        states=descriptor(states.view(-1, layout.key_dim, layout.value_dim), state_tile),
        dstates=descriptor(dstates.view(-1, layout.key_dim, layout.value_dim), state_tile),
        factors=descriptor(rows.view(-1), [CHUNK]),
        dq=descriptor(dq, key_tile),
        dk=descriptor(dk, key_tile),
        dv=descriptor(dv, value_tile),
        dg=dg,
        dbeta=dbeta,
        T=layout.time,
        H=layout.heads,
        HV=layout.value_heads,
        items=items,
        share_size=dg.stride(0),
        C=CHUNK,
        R=rows.shape[2],
        V=layout.value_dim,
        K=layout.key_dim,
        TOGETHER=layout.heads_together(gradients.FULL),
        STAGES=STAGES,
        KEY_STAGES=KEY_STAGES,
        QUERIES_REGISTERS=QUERIES_REGISTERS,
        SMALL_REGISTERS=SMALL_REGISTERS,
        num_warps=4,
        maxnreg=at_launch,
    )


@gluon.jit(do_not_specialize=["T", "H", "HV", "items", "share_size"])
def gradients_kernel(
    q, k, v, do, dx, states, dstates, factors, dq, dk, dv, dg, dbeta, T, H, HV, items, share_size,
    C: gl.constexpr, R: gl.constexpr, V: gl.constexpr, K: gl.constexpr, TOGETHER: gl.constexpr, STAGES: gl.constexpr,
    KEY_STAGES: gl.constexpr, QUERIES_REGISTERS: gl.constexpr, SMALL_REGISTERS: gl.constexpr,
):  # fmt: skip
    """One program: every `num_programs`-th item; `_queries`, `_keys`, `_gates` and `_load` are its warps."""
    BK: gl.constexpr = q.block_type.shape[3]
    VALUE_TILES: gl.constexpr = (V + do.block_type.shape[3] - 1) // do.block_type.shape[3]
    do_ring = allocate(do, STAGES)
    v_ring = allocate(v, STAGES)
    dx_ring = allocate(dx, STAGES)
    s_ring = allocate(states, STAGES)
    ds_ring = allocate(dstates, STAGES)
    row_ring = allocate(factors, STAGES * 4)
    q_ring = allocate(q, KEY_STAGES)
    k_ring = allocate(k, KEY_STAGES)
    SQUARE: gl.constexpr = gl.NVMMASharedLayout.get_default_for([C, C], q.dtype)
    dPs_tile = gl.allocate_shared_memory(q.dtype, [C, C], SQUARE)
    dq_tile = allocate(dq, 1)
    dk_tile = allocate(dk, 1)
    sums_at = gl.allocate_shared_memory(gl.float32, [4, C], PLAIN)
    s_ds_at = gl.allocate_shared_memory(gl.float32, [BK], PLAIN)
    columns_at = gl.allocate_shared_memory(gl.float32, [4, C], PLAIN_2D)

    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    keys_full = gl.allocate_shared_memory(gl.int64, [KEY_STAGES, 1], mbarrier.MBarrierLayout())
    keys_empty = gl.allocate_shared_memory(gl.int64, [KEY_STAGES, 1], mbarrier.MBarrierLayout())
    hands = gl.allocate_shared_memory(gl.int64, [5, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=2)
    for stage in gl.static_range(KEY_STAGES):
        mbarrier.init(keys_full.index(stage), count=1)
        mbarrier.init(keys_empty.index(stage), count=2)
    for hand in gl.static_range(5):
        mbarrier.init(hands.index(hand), count=1)
    fence_async_shared()

    work = (items, T, H, HV)
    values = (do_ring, v_ring, dx_ring, s_ring, ds_ring, row_ring, full, empty)
    keys = (q_ring, k_ring, keys_full, keys_empty)
    small = (dPs_tile, sums_at, s_ds_at, columns_at, hands)
    gl.warp_specialize(
        [
            (_keys, (work, values, keys, small, dk_tile, dk, dv, K, V, TOGETHER, VALUE_TILES)),
            (_queries, (work, values, keys, small, dq_tile, dq, K, TOGETHER, VALUE_TILES)),
            (_gates, (work, small, dg, dbeta, share_size, C, TOGETHER, VALUE_TILES)),
            (_load, (work, values, keys, do, v, dx, states, dstates, factors, q, k, R, TOGETHER, VALUE_TILES)),
        ],
        [4, 1, 1],
        [QUERIES_REGISTERS, SMALL_REGISTERS, SMALL_REGISTERS],
    )


@gluon.jit
def _locate(item, work, C: gl.constexpr, TOGETHER: gl.constexpr):
    """Return (batch, first token, slot, part) of an item; neighbours in time are parts of a chunk."""
    items, T, H, HV = work
    parts = HV // TOGETHER
    slot = item // parts
    per_sequence = (T + C - 1) // C
    return slot // per_sequence, slot % per_sequence * C, slot, item % parts


@gluon.jit
def _load(
    work, values, keys, do, v, dx, states, dstates, factors, q, k,
    R: gl.constexpr, TOGETHER: gl.constexpr, VALUE_TILES: gl.constexpr,
):  # fmt: skip
    """The loader: fill the rings, item after item, as their stages become empty."""
    do_ring, v_ring, dx_ring, s_ring, ds_ring, row_ring, full, empty = values
    q_ring, k_ring, keys_full, keys_empty = keys
    items, T, H, HV = work
    C: gl.constexpr = do_ring.shape[2]
    VB: gl.constexpr = do_ring.shape[4]
    STAGES: gl.constexpr = do_ring.shape[0]
    KEY_STAGES: gl.constexpr = q_ring.shape[0]
    BYTES: gl.constexpr = 3 * do.block_type.nbytes + 2 * states.block_type.nbytes + 4 * factors.block_type.nbytes
    n = 0  # tiles of V, of all heads and items
    m = 0  # items
    for item in range(gl.program_id(0), items, gl.num_programs(0)):
        batch, token, slot, part = _locate(item, work, C, TOGETHER)
        key_stage = m % KEY_STAGES
        key_full = keys_full.index(key_stage)
        mbarrier.wait(keys_empty.index(key_stage), ((m // KEY_STAGES) & 1) ^ 1)
        mbarrier.expect(key_full, q.block_type.nbytes + k.block_type.nbytes)
        key_at = [batch, token, part * TOGETHER // (HV // H), 0]
        tma.async_copy_global_to_shared(k, key_at, key_full, k_ring.index(key_stage))
        tma.async_copy_global_to_shared(q, key_at, key_full, q_ring.index(key_stage))
        for i in range(TOGETHER * VALUE_TILES):
            stage = n % STAGES
            arrived = full.index(stage)
            head = part * TOGETHER + i // VALUE_TILES
            column = i % VALUE_TILES * VB
            block = slot * HV + head
            mbarrier.wait(empty.index(stage), ((n // STAGES) & 1) ^ 1)
            mbarrier.expect(arrived, BYTES)
            at = [batch, token, head, column]
            tma.async_copy_global_to_shared(do, at, arrived, do_ring.index(stage))
            tma.async_copy_global_to_shared(v, at, arrived, v_ring.index(stage))
            tma.async_copy_global_to_shared(states, [block, 0, column], arrived, s_ring.index(stage))
            tma.async_copy_global_to_shared(dstates, [block, 0, column], arrived, ds_ring.index(stage))
            for f in gl.static_range(4):
                row = row_ring.index(stage * 4 + f)
                tma.async_copy_global_to_shared(factors, [(block * R + FACTORS[f]) * C], arrived, row)
            tma.async_copy_global_to_shared(dx, at, arrived, dx_ring.index(stage))
            n += 1
        m += 1


@gluon.jit
def _queries(
    work, values, keys, small, dq_tile, dq,
    K: gl.constexpr, TOGETHER: gl.constexpr, VALUE_TILES: gl.constexpr,
):  # fmt: skip
    """The warpgroup of dq, with all that is between tokens of the chunk."""
    do_ring, v_ring, dx_ring, s_ring, ds_ring, row_ring, full, empty = values
    q_ring, k_ring, keys_full, keys_empty = keys
    dPs_tile, sums_at, s_ds_at, columns_at, hands = small
    items, T, H, HV = work
    C: gl.constexpr = do_ring.shape[2]
    VB: gl.constexpr = do_ring.shape[4]
    BK: gl.constexpr = q_ring.shape[4]
    STAGES: gl.constexpr = do_ring.shape[0]
    KEY_STAGES: gl.constexpr = q_ring.shape[0]
    DT: gl.constexpr = q_ring.dtype
    BY_KEY: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BK, 16])  # accumulator [tokens, BK]
    BY_TOKEN: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, C, 16])  # accumulator [tokens, 64]
    LEFT: gl.constexpr = gl.DotOperandLayout(0, BY_KEY, 2)
    ROW: gl.constexpr = gl.SliceLayout(1, BY_TOKEN)
    COLUMN: gl.constexpr = gl.SliceLayout(0, BY_TOKEN)

    later = gl.arange(0, C, ROW)[:, None] >= gl.arange(0, C, COLUMN)[None, :]
    n = 0  # tiles of V, of all heads and items
    m = 0  # items
    for item in range(gl.program_id(0), items, gl.num_programs(0)):
        batch, token, slot, part = _locate(item, work, C, TOGETHER)
        key_stage = m % KEY_STAGES
        q_tile = q_ring.index(key_stage).reshape([C, BK])
        k_tile = k_ring.index(key_stage).reshape([C, BK])
        mbarrier.wait(keys_full.index(key_stage), (m // KEY_STAGES) & 1)
        qk = gl.zeros([C, C], gl.float32, BY_TOKEN)
        qk = warpgroup_mma(q_tile, k_tile.permute((1, 0)), qk, use_acc=False, is_async=True)
        # What is above the diagonal is cut off here and at the end, rather than of every head's dPs.
        qk = gl.where(later, warpgroup_mma_wait(0, deps=(qk,)), 0.0).to(DT)

        dq_sum = gl.zeros([C, BK], gl.float32, BY_KEY)
        dPs_sum = gl.zeros([C, C], gl.float32, BY_TOKEN)
        for _ in range(TOGETHER * VALUE_TILES):
            stage = n % STAGES
            mbarrier.wait(full.index(stage), (n // STAGES) & 1)
            do_tile = do_ring.index(stage).reshape([C, VB])
            v_tile = v_ring.index(stage).reshape([C, VB])
            S_tile = s_ring.index(stage).reshape([BK, VB])
            qS = gl.zeros([C, VB], gl.float32, BY_TOKEN)
            qS = warpgroup_mma(q_tile, S_tile, qS, use_acc=False, is_async=True)
            read = row_ring.index(stage * 4 + READ).load(ROW)
            do_read = (do_tile.load(BY_TOKEN).to(gl.float32) * read[:, None]).to(DT)
            left = gl.convert_layout(do_read, LEFT, assert_trivial=True)
            dq_sum = warpgroup_mma(left, S_tile.permute((1, 0)), dq_sum, is_async=True)

            # Only then dP: there is no room for both.
            qS = warpgroup_mma_wait(1, deps=(qS,))
            have_read = gl.sum(qS * do_read.to(gl.float32), 1)
            dP = gl.zeros([C, C], gl.float32, BY_TOKEN)
            dP = warpgroup_mma(do_tile, v_tile.permute((1, 0)), dP, use_acc=False, is_async=True)
            waited = warpgroup_mma_wait(0, deps=(dq_sum, left, dP))
            dq_sum = waited[0]
            dP = waited[2]
            decay_at = row_ring.index(stage * 4 + DECAY)
            D = gl.exp2(gl.minimum(decay_at.load(ROW)[:, None] - decay_at.load(COLUMN)[None, :], 0.0))
            dPs = dP * D * row_ring.index(stage * 4 + BETA).load(COLUMN)[None, :]
            dPs_sum += dPs
            W = dPs * qk.to(gl.float32)
            w_rows = gl.sum(W, 1)
            w_columns = gl.sum(W.reshape([4, C // 4, C]), 1)  # the rows of a warp: no warp waits for another

            mbarrier.arrive(empty.index(stage), count=1)
            mbarrier.wait(hands.index(SUMS_TAKEN), (n & 1) ^ 1)
            sums_at.index(HAVE_READ).store(have_read)
            sums_at.index(W_ROWS).store(w_rows)
            columns_at.store(w_columns)
            gl.thread_barrier()
            mbarrier.arrive(hands.index(QUERIES_SUMMED), count=1)
            n += 1

        # dPs goes to keys, which needs it transposed, and into the own product.
        dPs_half = gl.where(later, dPs_sum, 0.0).to(DT)
        mbarrier.wait(hands.index(DPS_TAKEN), (m & 1) ^ 1)
        dPs_tile.store(dPs_half)
        fence_async_shared()
        gl.thread_barrier()
        mbarrier.arrive(hands.index(DPS_WRITTEN), count=1)
        left = gl.convert_layout(dPs_half, LEFT, assert_trivial=True)
        dq_sum = warpgroup_mma(left, k_tile, dq_sum, is_async=True)
        dq_sum = warpgroup_mma_wait(0, deps=(dq_sum, left))[0]
        mbarrier.arrive(keys_empty.index(key_stage), count=1)
        # The dq before has left this tile.
        tma.store_wait(0)
        gl.thread_barrier()
        dq_tile.index(0).reshape([C, BK]).store(dq_sum.to(DT))
        fence_async_shared()
        gl.thread_barrier()
        store_tokens(dq_tile.index(0), dq, None, batch, token, T, part, 0, C, K)
        m += 1
    tma.store_wait(0)


@gluon.jit
def _keys(
    work, values, keys, small, dk_tile, dk, dv,
    K: gl.constexpr, V: gl.constexpr, TOGETHER: gl.constexpr, VALUE_TILES: gl.constexpr,
):  # fmt: skip
    """The warpgroup of dk and dv, with the sums over V and over states."""
    do_ring, v_ring, dx_ring, s_ring, ds_ring, row_ring, full, empty = values
    q_ring, k_ring, keys_full, keys_empty = keys
    dPs_tile, sums_at, s_ds_at, columns_at, hands = small
    items, T, H, HV = work
    C: gl.constexpr = do_ring.shape[2]
    VB: gl.constexpr = do_ring.shape[4]
    BK: gl.constexpr = q_ring.shape[4]
    STAGES: gl.constexpr = do_ring.shape[0]
    KEY_STAGES: gl.constexpr = q_ring.shape[0]
    DT: gl.constexpr = q_ring.dtype
    BY_KEY: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BK, 16])  # accumulator [tokens, BK]
    BY_TOKEN: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, C, 16])  # accumulator [tokens, 64]
    LEFT: gl.constexpr = gl.DotOperandLayout(0, BY_KEY, 2)
    ROW: gl.constexpr = gl.SliceLayout(1, BY_TOKEN)
    WIDE: gl.constexpr = gl.BlockedLayout([1, 8], [256 // VB, VB // 8], [4, 1], [1, 0])  # 16 bytes of a thread

    n = 0  # tiles of V, of all heads and items
    m = 0  # items
    for item in range(gl.program_id(0), items, gl.num_programs(0)):
        batch, token, slot, part = _locate(item, work, C, TOGETHER)
        key_stage = m % KEY_STAGES
        q_tile = q_ring.index(key_stage).reshape([C, BK])
        k_tile = k_ring.index(key_stage).reshape([C, BK])
        mbarrier.wait(keys_full.index(key_stage), (m // KEY_STAGES) & 1)

        dk_sum = gl.zeros([C, BK], gl.float32, BY_KEY)
        for i in range(TOGETHER * VALUE_TILES):
            stage = n % STAGES
            mbarrier.wait(full.index(stage), (n // STAGES) & 1)
            v_tile = v_ring.index(stage).reshape([C, VB])
            S_tile = s_ring.index(stage).reshape([BK, VB])
            dS_tile = ds_ring.index(stage).reshape([BK, VB])
            kdS = gl.zeros([C, VB], gl.float32, BY_TOKEN)
            kdS = warpgroup_mma(k_tile, dS_tile, kdS, use_acc=False, is_async=True)
            beta_at = row_ring.index(stage * 4 + BETA)
            write = row_ring.index(stage * 4 + WRITE).load(ROW) * beta_at.load(ROW)
            v_written = (v_tile.load(BY_TOKEN).to(gl.float32) * write[:, None]).to(DT)
            left = gl.convert_layout(v_written, LEFT, assert_trivial=True)
            dk_sum = warpgroup_mma(left, dS_tile.permute((1, 0)), dk_sum, is_async=True)

            # While these run: dv, and the sums that need no product.
            dx_tile = dx_ring.index(stage).reshape([C, VB])
            dx_wide = dx_tile.load(WIDE).to(gl.float32)
            dx_v = gl.sum(dx_wide * v_tile.load(WIDE).to(gl.float32), 1)
            dx_tile.store((beta_at.load(gl.SliceLayout(1, WIDE))[:, None] * dx_wide).to(DT))
            fence_async_shared()
            gl.thread_barrier()
            head = part * TOGETHER + i // VALUE_TILES
            store_tokens(dx_ring.index(stage), dv, None, batch, token, T, head, i % VALUE_TILES * VB, C, V)
            total = gl.exp2(row_ring.index(stage * 4 + DECAY).slice(C - 1, 1).load(gl.SliceLayout(1, WIDE)))
            S_dS = gl.sum(S_tile.load(WIDE).to(gl.float32) * dS_tile.load(WIDE).to(gl.float32), 1) * total

            kdS = warpgroup_mma_wait(1, deps=(kdS,))
            have_written = gl.sum(kdS * v_written.to(gl.float32), 1)
            waited = warpgroup_mma_wait(0, deps=(dk_sum, left))
            dk_sum = waited[0]
            mbarrier.wait(hands.index(SUMS_TAKEN), (n & 1) ^ 1)
            sums_at.index(HAVE_WRITTEN).store(have_written)
            sums_at.index(DX_V).store(dx_v)
            s_ds_at.store(S_dS)
            tma.store_wait(0)
            gl.thread_barrier()
            mbarrier.arrive(hands.index(KEYS_SUMMED), count=1)
            mbarrier.arrive(empty.index(stage), count=1)
            n += 1

        mbarrier.wait(hands.index(DPS_WRITTEN), m & 1)
        dk_sum = warpgroup_mma(dPs_tile.permute((1, 0)), q_tile, dk_sum, is_async=True)
        dk_sum = warpgroup_mma_wait(0, deps=(dk_sum,))
        mbarrier.arrive(hands.index(DPS_TAKEN), count=1)
        mbarrier.arrive(keys_empty.index(key_stage), count=1)
        # The dk before has left this tile: the loop waited for all stores.
        dk_tile.index(0).reshape([C, BK]).store(dk_sum.to(DT))
        fence_async_shared()
        gl.thread_barrier()
        store_tokens(dk_tile.index(0), dk, None, batch, token, T, part, 0, C, K)
        m += 1
    tma.store_wait(0)


@gluon.jit
def _gates(
    work, small, dg, dbeta, share_size,
    C: gl.constexpr, TOGETHER: gl.constexpr, VALUE_TILES: gl.constexpr,
):  # fmt: skip
    """The warp of dg and dbeta: what the warpgroups summed, through the decay's cumulative sum."""
    dPs_tile, sums_at, s_ds_at, columns_at, hands = small
    items, T, H, HV = work
    t = gl.arange(0, C, SCAN)
    n = 0  # tiles of V, of all heads and items
    for item in range(gl.program_id(0), items, gl.num_programs(0)):
        batch, token, slot, part = _locate(item, work, C, TOGETHER)
        here = t < T - token
        at = (batch.to(gl.int64) * T + token + t) * HV
        for i in range(TOGETHER * VALUE_TILES):
            mbarrier.wait(hands.index(QUERIES_SUMMED), n & 1)
            between = sums_at.index(HAVE_READ).load(SCAN) + sums_at.index(W_ROWS).load(SCAN)
            between -= gl.convert_layout(gl.sum(columns_at.load(BY_WARP), 0), SCAN)
            mbarrier.wait(hands.index(KEYS_SUMMED), n & 1)
            have_written = sums_at.index(HAVE_WRITTEN).load(SCAN)
            dx_v = sums_at.index(DX_V).load(SCAN)
            carried = gl.sum(s_ds_at.load(SCAN), 0)
            gl.thread_barrier()
            mbarrier.arrive(hands.index(SUMS_TAKEN), count=1)
            own = part * TOGETHER + i // VALUE_TILES + i % VALUE_TILES * share_size
            d_decay = gl.associative_scan(between, 0, _add, reverse=True) + carried
            d_decay += gl.associative_scan(have_written, 0, _add) - have_written
            gl.store(dg + own + at, d_decay, mask=here)
            gl.store(dbeta + own + at, dx_v, mask=here)
            n += 1


@gluon.jit
def _add(x, y):
    """Return the sum: what a scan combines by."""
    return x + y
