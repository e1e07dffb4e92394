"""`gradients` for sm_90 in Gluon: one warpgroup makes dq and dv, another dk, a warp the gates; a loader runs ahead.

The math is that of `gated_delta.gpu.gradients`. Here a token is a row of every accumulator: a sum over K stays among
four threads, and dq, dk leave as they lie.

    queries   dq^ = scale e (dO S^T) + dPs k^,  dv = beta dX,  dX . v,  <S, dS>
    keys      row = dM k^ - e (dX S^T),  col = w (Delta dS^T) + dPs^T q^ + dM^T (beta k^),  dk^ = beta row + col

An item of work is a chunk of a value head or, where K > 128, a tile of K of it; such tiles leave partial sums, and
`finish_kernel` closes the rows. As many programs as the GPU holds take items in turn (neighbours in time are tiles of
K, then heads, so that what they share is in L2). Each has

    warps             work                                       registers (float32 unless it says half)
    queries           dO S^T, dO Delta^T in a loop over V, and   [64, BK], [64, 64]; half, as left operand: dPs
    (a warpgroup)     beta dX, dX . v, <S, dS> beside it
    keys              dX S^T, Delta dS^T, dX Delta^T in a        [64, BK] twice, [64, 64]; half, as left operand: dM
    (a warpgroup)     loop over V
    gates (1 warp)    dg, dbeta from the sums of both            two tokens a thread
    loader (1 warp)   TMA loads: the next tiles of V, q and k    -

    shared memory                  shape                           filled by      read by
    do_ring, dx_ring, delta_ring   [STAGES, 64, VB]                loader         products; queries: dX . v, beta dX
    v_ring                         [STAGES, 64, VB]                loader         queries: dX . v
      and then the same                                            queries        TMA store of dv
    s_ring, ds_ring                [STAGES, BK, VB]                loader         products; queries: <S, dS>
    q_ring, k_ring                 [KEY_STAGES, 64, BK]            loader         products; sums over K
    row_ring                       [KEY_STAGES + 2, 2 or 4, 64]    loader         all: beta, decay, rq, rk by token
    dPs_tile                       [64, 64]                        queries        keys: left operand, transposed
    dM_tile                        [64, 64]                        keys           keys: left operand, transposed
    sums_at, s_ds_at               [5, 64], [BK] float32           queries, keys  gates
    dq_tile, dk_tile               [64, BK]                        queries, keys  TMA stores

    barriers                       a phase ends when
    full, empty                    a stage's tiles have arrived; both warpgroups have done with them
    keys_full, keys_empty          the same for q and k
    rows_full                      the factors have arrived
    hands                          dPs_tile is written, is free; the sums of queries, of keys are written, are taken

The warpgroups share the rings, dPs and sums only, so that products of one run under arithmetic of the other and loads
under both. At K = V = 128, two stages take 128 KB, q and k 32, dPs and dM 16, dq and dk 32, the factors 3. What lies
beyond K, V or T loads as zero and is not stored. Behind the end of a packed sequence follow rows of the next one: dPs
and dM are zero there, sums are masked, and all else stays in its row, which is not stored.
"""

import dataclasses
import functools

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

from gdnbench_kernels.gated_delta.gpu import gates
from gdnbench_kernels.gated_delta.gpu.gradients import SUMS, bounded, finish_kernel
from gdnbench_kernels.gated_delta.gpu.hopper.warpgroups import (
    SMS,
    allocate,
    descriptor,
    registers,
    store_tokens,
)
from gdnbench_kernels.gated_delta.gpu.layout import CHUNK, ROWS, Layout, cdiv, locate_chunk, strides
from gdnbench_kernels.launching import launch

# Row factors in the order they have in `row_ring`, and their places in `layout.ROWS`; the last two with NORMALIZE.
BETA, DECAY, RQ, RK = (gl.constexpr(i) for i in range(4))
FACTORS = gl.constexpr(tuple(ROWS.index(name) for name in ("beta", "decay", "rq", "rk")))

# Sums over K or V by token, and the barriers between warps, by their place in shared memory.
Q_DQ, DX_V, K_ROW, K_COL, K_W = (gl.constexpr(i) for i in range(5))
DPS_WRITTEN, DPS_TAKEN, QUERIES_SUMMED, KEYS_SUMMED, SUMS_TAKEN = (gl.constexpr(i) for i in range(5))

SCAN = gl.constexpr(gl.BlockedLayout([2], [32], [1], [0]))  # 64 tokens in a warp
PLAIN = gl.constexpr(gl.SwizzledSharedLayout(1, 1, 1, [0]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration:
    """How a program is built, in the words of the map above.

    Attributes:
        key_width: BK, columns of K that an item sees.
        value_width: VB, columns of V in a stage of the ring.
        stages: of the ring over tiles of V.
        key_stages: of the ring over items.
        resident: programs that share an SM and its registers.
        queries_registers, small_registers: of a thread of queries, of loader and gates; keys has what is left.
    """

    key_width: int
    value_width: int
    stages: int
    key_stages: int = 1
    resident: int = 1
    queries_registers: int = 184
    small_registers: int = 64

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a program, barriers and alignment included."""
        key_tile, value_tile, state_tile = (
            2 * a * b
            for a, b in ((CHUNK, self.key_width), (CHUNK, self.value_width), (self.key_width, self.value_width))
        )
        stage = 4 * value_tile + 2 * state_tile
        factors = (self.key_stages + 2) * len(FACTORS.value) * CHUNK * 4
        out = 2 * key_tile + 2 * 2 * CHUNK * CHUNK
        return self.stages * stage + self.key_stages * 2 * key_tile + factors + out + 3_072


@functools.cache
def configure(key_dim: int, value_dim: int) -> Configuration:
    """Return how to build the kernel for a shape.

    Narrow keys leave room for two programs on an SM, which hide each other's waits; else one takes all of it.
    """
    if key_dim <= 32:
        return Configuration(
            key_width=32, value_width=32, stages=3, key_stages=2, resident=2, queries_registers=96, small_registers=32
        )
    if key_dim <= 64:
        return Configuration(key_width=64, value_width=64, stages=3, key_stages=2)
    return Configuration(key_width=128, value_width=64, stages=2)


def key_tiles(layout: Layout, device: torch.device) -> int:
    """Return how many items share a chunk of a value head, each with a tile of K."""
    return cdiv(layout.key_dim, configure(layout.key_dim, layout.value_dim).key_width)


def run(
    layout: Layout,
    *,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    do: Tensor,
    dx: Tensor,
    delta: Tensor,
    states: Tensor,
    dstates: Tensor,
    rows: Tensor,
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    dg: Tensor,
    dbeta: Tensor,
    scale: float,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    d_gate: Tensor | None = None,
    gate_scale: float = 1.0,
    beta_range: float | None = None,
    normalize: bool = False,
    chosen: Configuration | None = None,
) -> None:
    """Write the gradients of the arguments: `gated_delta.gpu.gradients.run` for sm_90.

    Args:
        layout, q, k, v, g, beta, do, dx, delta, states, dstates, rows, dq, dk, dv, dg, dbeta, scale, A_log, dt_bias,
            d_gate, gate_scale, beta_range, normalize: as there; ``q, k, v, do, dx, delta`` are as `choice.movable`
            gives them. ``dv`` may be ``dx`` itself where `key_tiles` is 1.
        chosen: None takes `configure`'s.
    """
    if chosen is None:
        chosen = configure(layout.key_dim, layout.value_dim)
    tiles = cdiv(layout.key_dim, chosen.key_width)
    sums = None
    if tiles > 1:
        size = (tiles, layout.chunks, layout.value_heads, len(SUMS), CHUNK)
        sums = torch.empty(size, device=q.device, dtype=torch.float32)
    items = layout.chunks * layout.value_heads * tiles
    programs = min(items, SMS * chosen.resident)
    at_launch, _ = registers(2, chosen.resident)
    key_tile = [1, CHUNK, 1, chosen.key_width]
    value_tile = [1, CHUNK, 1, chosen.value_width]
    state_tile = [1, chosen.key_width, chosen.value_width]
    results = dict(dq=dq, dk=dk, dv=dv)
    shared = dict(
        g=g,
        beta=beta,
        A_log=A_log,
        dt_bias=dt_bias,
        dg=dg,
        dbeta=dbeta,
        d_gate=d_gate,
        sums=sums,
        **strides(g=g, beta=beta, dg=dg, dbeta=dbeta),
        **layout.kernel_arguments(),
        chunk_sequence=layout.chunk_sequence,
        gate_scale=float(gate_scale),
        beta_range=beta_range,
        C=CHUNK,
        K=layout.key_dim,
        BK=chosen.key_width,
        R=rows.shape[2],
        NORMALIZE=normalize,
    )
    launch(
        gradients_kernel,
        (programs,),
        q=descriptor(q, key_tile),
        k=descriptor(k, key_tile),
        v=descriptor(v, value_tile),
        do=descriptor(do, value_tile),
        dx=descriptor(dx, value_tile),
        delta=descriptor(delta, value_tile),
        states=descriptor(states.view(-1, layout.key_dim, layout.value_dim), state_tile),
        dstates=descriptor(dstates.view(-1, layout.key_dim, layout.value_dim), state_tile),
        factors=descriptor(rows.view(-1), [CHUNK]),
        dq=descriptor(dq, key_tile),
        dk=descriptor(dk, key_tile),
        dv=descriptor(dv, value_tile),
        **{f"{name}_ragged": x if layout.cu_seqlens is not None else None for name, x in results.items()},
        slots=layout.chunks,
        scale=float(scale),
        V=layout.value_dim,
        VB=chosen.value_width,
        STAGES=chosen.stages,
        KEY_STAGES=chosen.key_stages,
        QUERIES_REGISTERS=chosen.queries_registers,
        SMALL_REGISTERS=chosen.small_registers,
        num_warps=4,
        maxnreg=at_launch,
        **shared,
    )
    if sums is not None:
        finish = dict(q=q, k=k, rows=rows, dq=dq, dk=dk, **strides(q=q, k=k, dq=dq, dk=dk))
        launch(finish_kernel, (layout.chunks, layout.value_heads), **finish, **shared, TILES=tiles, num_warps=4)


@gluon.jit(
    do_not_specialize=[
        "g_sb", "g_st", "g_sh", "beta_sb", "beta_st", "beta_sh", "dg_sb", "dg_st", "dg_sh", "dbeta_sb", "dbeta_st",
        "dbeta_sh", "T", "H", "HV", "slots", "scale", "gate_scale",
    ]
)  # fmt: skip
def gradients_kernel(
    q, k, v, do, dx, delta, states, dstates, factors, dq, dk, dv, dq_ragged, dk_ragged, dv_ragged,
    g, beta, A_log, dt_bias, dg, dbeta, d_gate, sums,
    g_sb, g_st, g_sh, beta_sb, beta_st, beta_sh, dg_sb, dg_st, dg_sh, dbeta_sb, dbeta_st, dbeta_sh,
    T, H, HV, cu_seqlens, chunk_starts, chunk_sequence, slots, scale, gate_scale, beta_range,
    C: gl.constexpr, K: gl.constexpr, BK: gl.constexpr, V: gl.constexpr, VB: gl.constexpr, R: gl.constexpr,
    STAGES: gl.constexpr, KEY_STAGES: gl.constexpr, NORMALIZE: gl.constexpr, QUERIES_REGISTERS: gl.constexpr,
    SMALL_REGISTERS: gl.constexpr,
):  # fmt: skip
    """One program: every `num_programs`-th item; `_queries`, `_keys`, `_gates` and `_load` are its warps."""
    KEY_TILES: gl.constexpr = (K + BK - 1) // BK
    VALUE_TILES: gl.constexpr = (V + VB - 1) // VB
    do_ring = allocate(do, STAGES)
    dx_ring = allocate(dx, STAGES)
    delta_ring = allocate(delta, STAGES)
    v_ring = allocate(v, STAGES)
    s_ring = allocate(states, STAGES)
    ds_ring = allocate(dstates, STAGES)
    q_ring = allocate(q, KEY_STAGES)
    k_ring = allocate(k, KEY_STAGES)
    # The factors need no barrier to become empty: the loader last waited until q and k of KEY_STAGES + 1 items before
    # were done with, and this the warpgroups say after gates has taken the sums of the item before that.
    row_ring = allocate(factors, (KEY_STAGES + 2) * (4 if NORMALIZE else 2))
    SQUARE: gl.constexpr = gl.NVMMASharedLayout.get_default_for([C, C], q.dtype)
    dPs_tile = gl.allocate_shared_memory(q.dtype, [C, C], SQUARE)
    dM_tile = gl.allocate_shared_memory(q.dtype, [C, C], SQUARE)
    dq_tile = allocate(dq, 1)
    dk_tile = allocate(dk, 1)
    sums_at = gl.allocate_shared_memory(gl.float32, [5, C], PLAIN)
    s_ds_at = gl.allocate_shared_memory(gl.float32, [BK], PLAIN)

    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    keys_full = gl.allocate_shared_memory(gl.int64, [KEY_STAGES, 1], mbarrier.MBarrierLayout())
    keys_empty = gl.allocate_shared_memory(gl.int64, [KEY_STAGES, 1], mbarrier.MBarrierLayout())
    rows_full = gl.allocate_shared_memory(gl.int64, [KEY_STAGES + 2, 1], mbarrier.MBarrierLayout())
    hands = gl.allocate_shared_memory(gl.int64, [5, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=2)
    for stage in gl.static_range(KEY_STAGES):
        mbarrier.init(keys_full.index(stage), count=1)
        mbarrier.init(keys_empty.index(stage), count=2)
    for stage in gl.static_range(KEY_STAGES + 2):
        mbarrier.init(rows_full.index(stage), count=1)
    for hand in gl.static_range(5):
        mbarrier.init(hands.index(hand), count=1)
    fence_async_shared()

    items = slots * HV * KEY_TILES
    work = (items, T, H, HV, cu_seqlens, chunk_starts, chunk_sequence)
    values = (do_ring, dx_ring, delta_ring, v_ring, s_ring, ds_ring, full, empty)
    keys = (q_ring, k_ring, row_ring, keys_full, keys_empty, rows_full)
    small = (dPs_tile, sums_at, s_ds_at, hands)
    token_strides = (g_sb, g_st, g_sh, dg_sb, dg_st, dg_sh, dbeta_sb, dbeta_st, dbeta_sh)
    gate_arguments = (g, A_log, dt_bias, dg, dbeta, d_gate, sums, gate_scale, beta_range)
    gl.warp_specialize(
        [
            (_keys, (work, values, keys, small, dM_tile, dk_tile, dk, dk_ragged, K, VALUE_TILES, KEY_TILES,
                     NORMALIZE)),
            (_queries, (work, values, keys, small, dq_tile, dq, dq_ragged, dv, dv_ragged, scale, beta_range, K, V,
                        VALUE_TILES, KEY_TILES, NORMALIZE)),
            (_gates, (work, keys, small, gate_arguments, token_strides, C, KEY_TILES, NORMALIZE)),
            (_load, (work, values, keys, do, dx, delta, v, states, dstates, q, k, factors, beta_range, R, VALUE_TILES,
                     KEY_TILES, NORMALIZE)),
        ],
        [4, 1, 1],
        [QUERIES_REGISTERS, SMALL_REGISTERS, SMALL_REGISTERS],
    )  # fmt: skip


@gluon.jit
def _locate(item, work, KEY_TILES: gl.constexpr, C: gl.constexpr):
    """Return (batch, first token, tokens, value head, block of rows and states, tile of K) of an item."""
    items, T, H, HV, cu_seqlens, chunk_starts, chunk_sequence = work
    block = item // KEY_TILES
    batch, first, count = locate_chunk(block // HV, T, cu_seqlens, chunk_starts, chunk_sequence, C)
    return batch, first, count, block % HV, block, item % KEY_TILES


@gluon.jit
def _load(
    work, values, keys, do, dx, delta, v, states, dstates, q, k, factors, beta_range,
    R: gl.constexpr, VALUE_TILES: gl.constexpr, KEY_TILES: gl.constexpr, NORMALIZE: gl.constexpr,
):  # fmt: skip
    """The loader: fill the rings, item after item, as their stages become empty."""
    do_ring, dx_ring, delta_ring, v_ring, s_ring, ds_ring, full, empty = values
    q_ring, k_ring, row_ring, keys_full, keys_empty, rows_full = keys
    items, T, H, HV, cu_seqlens, chunk_starts, chunk_sequence = work
    C: gl.constexpr = do_ring.shape[2]
    VB: gl.constexpr = do_ring.shape[4]
    BK: gl.constexpr = q_ring.shape[4]
    STAGES: gl.constexpr = do_ring.shape[0]
    KEY_STAGES: gl.constexpr = q_ring.shape[0]
    ROW_COUNT: gl.constexpr = 4 if NORMALIZE else 2
    BYTES: gl.constexpr = 3 * do.block_type.nbytes + 2 * states.block_type.nbytes
    n = 0  # tiles of V, of all items
    m = 0  # items
    for item in range(gl.program_id(0), items, gl.num_programs(0)):
        batch, token, count, head, block, key_tile = _locate(item, work, KEY_TILES, C)
        if count > 0:
            row_slot = m % (KEY_STAGES + 2)
            row_full = rows_full.index(row_slot)
            mbarrier.expect(row_full, ROW_COUNT * factors.block_type.nbytes)
            for f in gl.static_range(ROW_COUNT):
                row = row_ring.index(row_slot * ROW_COUNT + f)
                tma.async_copy_global_to_shared(factors, [(block * R + FACTORS[f]) * C], row_full, row)
            for i in range(VALUE_TILES):
                stage = n % STAGES
                arrived = full.index(stage)
                mbarrier.wait(empty.index(stage), ((n // STAGES) & 1) ^ 1)
                at = [batch, token, head, i * VB]
                state_at = [block, key_tile * BK, i * VB]
                if beta_range is None:
                    own = key_tile == 0
                    mbarrier.expect(arrived, BYTES + v.block_type.nbytes, pred=own)
                    mbarrier.expect(arrived, BYTES, pred=key_tile > 0)
                    tma.async_copy_global_to_shared(v, at, arrived, v_ring.index(stage), pred=own)
                else:
                    mbarrier.expect(arrived, BYTES)
                tma.async_copy_global_to_shared(do, at, arrived, do_ring.index(stage))
                tma.async_copy_global_to_shared(states, state_at, arrived, s_ring.index(stage))
                tma.async_copy_global_to_shared(delta, at, arrived, delta_ring.index(stage))
                tma.async_copy_global_to_shared(dx, at, arrived, dx_ring.index(stage))
                tma.async_copy_global_to_shared(dstates, state_at, arrived, ds_ring.index(stage))
                n += 1
            key_stage = m % KEY_STAGES
            key_full = keys_full.index(key_stage)
            mbarrier.wait(keys_empty.index(key_stage), ((m // KEY_STAGES) & 1) ^ 1)
            mbarrier.expect(key_full, q.block_type.nbytes + k.block_type.nbytes)
            key_at = [batch, token, head // (HV // H), key_tile * BK]
            tma.async_copy_global_to_shared(k, key_at, key_full, k_ring.index(key_stage))
            tma.async_copy_global_to_shared(q, key_at, key_full, q_ring.index(key_stage))
            m += 1


@gluon.jit
def _queries(
    work, values, keys, small, dq_tile, dq, dq_ragged, dv, dv_ragged, scale, beta_range,
    K: gl.constexpr, V: gl.constexpr, VALUE_TILES: gl.constexpr, KEY_TILES: gl.constexpr, NORMALIZE: gl.constexpr,
):  # fmt: skip
    """The warpgroup of dq and dv, with the sums over V."""
    do_ring, dx_ring, delta_ring, v_ring, s_ring, ds_ring, full, empty = values
    q_ring, k_ring, row_ring, keys_full, keys_empty, rows_full = keys
    dPs_tile, sums_at, s_ds_at, hands = small
    items, T, H, HV, cu_seqlens, chunk_starts, chunk_sequence = work
    C: gl.constexpr = do_ring.shape[2]
    VB: gl.constexpr = do_ring.shape[4]
    BK: gl.constexpr = q_ring.shape[4]
    STAGES: gl.constexpr = do_ring.shape[0]
    KEY_STAGES: gl.constexpr = q_ring.shape[0]
    ROW_COUNT: gl.constexpr = 4 if NORMALIZE else 2
    DT: gl.constexpr = q_ring.dtype
    BY_KEY: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BK, 16])  # accumulator [tokens, BK]
    BY_TOKEN: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, C, 16])  # accumulator [tokens, tokens]
    LEFT: gl.constexpr = gl.DotOperandLayout(0, BY_KEY, 2)
    WIDE: gl.constexpr = gl.BlockedLayout([1, 8], [256 // VB, VB // 8], [4, 1], [1, 0])  # 16 bytes of a thread

    n = 0  # tiles of V, of all items
    m = 0  # items
    for item in range(gl.program_id(0), items, gl.num_programs(0)):
        batch, token, count, head, block, key_tile = _locate(item, work, KEY_TILES, C)
        if count > 0:
            row_slot = m % (KEY_STAGES + 2)
            row = row_slot * ROW_COUNT
            mbarrier.wait(rows_full.index(row_slot), (m // (KEY_STAGES + 2)) & 1)
            beta = row_ring.index(row + BETA).load(gl.SliceLayout(1, WIDE))[:, None]

            dq_hat = gl.zeros([C, BK], gl.float32, BY_KEY)
            dP = gl.zeros([C, C], gl.float32, BY_TOKEN)
            dx_v = gl.zeros([C], gl.float32, gl.SliceLayout(1, WIDE))
            S_dS = gl.zeros([BK], gl.float32, gl.SliceLayout(1, WIDE))
            for i in range(VALUE_TILES):
                stage = n % STAGES
                mbarrier.wait(full.index(stage), (n // STAGES) & 1)
                do_tile = do_ring.index(stage).reshape([C, VB])
                delta_tile = delta_ring.index(stage).reshape([C, VB])
                S_tile = s_ring.index(stage).reshape([BK, VB])
                dq_hat = warpgroup_mma(do_tile, S_tile.permute((1, 0)), dq_hat, is_async=True)
                dP = warpgroup_mma(do_tile, delta_tile.permute((1, 0)), dP, is_async=True)
                if key_tile == 0:
                    dx_wide = dx_ring.index(stage).reshape([C, VB]).load(WIDE).to(gl.float32)
                    v_tile = v_ring.index(stage).reshape([C, VB])
                    other = v_tile if beta_range is None else delta_tile
                    dx_v += gl.sum(dx_wide * other.load(WIDE).to(gl.float32), 1)
                    v_tile.store((beta * dx_wide).to(DT))
                    fence_async_shared()
                    gl.thread_barrier()
                    store_tokens(v_ring.index(stage), dv, dv_ragged, batch, token, token + count, head, i * VB, C, V)
                dS_tile = ds_ring.index(stage).reshape([BK, VB])
                S_dS += gl.sum(S_tile.load(WIDE).to(gl.float32) * dS_tile.load(WIDE).to(gl.float32), 1)
                waited = warpgroup_mma_wait(0, deps=(dq_hat, dP))
                dq_hat = waited[0]
                dP = waited[1]
                tma.store_wait(0)
                gl.thread_barrier()
                mbarrier.arrive(empty.index(stage), count=1)
                n += 1

            # dPs goes to keys, which needs it transposed, and into the own product.
            dPs = _decayed(dP, row_ring.index(row + DECAY), count, BY_TOKEN, 0) * scale
            if NORMALIZE:
                dPs *= row_ring.index(row + RQ).load(gl.SliceLayout(1, BY_TOKEN))[:, None]
                dPs *= row_ring.index(row + RK).load(gl.SliceLayout(0, BY_TOKEN))[None, :]
                dPs = bounded(dPs, DT)
            mbarrier.wait(hands.index(DPS_TAKEN), (m & 1) ^ 1)
            dPs_tile.store(dPs.to(DT))
            fence_async_shared()
            gl.thread_barrier()
            mbarrier.arrive(hands.index(DPS_WRITTEN), count=1)

            decay = row_ring.index(row + DECAY).load(gl.SliceLayout(1, BY_KEY))
            factor = scale * gl.exp2(decay)
            if NORMALIZE:
                rq = row_ring.index(row + RQ).load(gl.SliceLayout(1, BY_KEY))
                factor *= rq
            dq_hat *= factor[:, None]
            key_stage = m % KEY_STAGES
            mbarrier.wait(keys_full.index(key_stage), (m // KEY_STAGES) & 1)
            left = gl.convert_layout(dPs.to(DT), LEFT, assert_trivial=True)
            k_tile = k_ring.index(key_stage).reshape([C, BK])
            dq_hat = warpgroup_mma(left, k_tile, dq_hat, is_async=True)
            q_tile = q_ring.index(key_stage).reshape([C, BK]).load(BY_KEY)
            dq_hat = warpgroup_mma_wait(0, deps=(dq_hat, left))[0]

            q_dq = gl.sum(q_tile.to(gl.float32) * dq_hat, 1)
            if NORMALIZE and KEY_TILES == 1:
                dq_hat -= (rq * rq * q_dq)[:, None] * q_tile.to(gl.float32)
            mbarrier.wait(hands.index(SUMS_TAKEN), (m & 1) ^ 1)
            sums_at.index(Q_DQ).store(q_dq)
            sums_at.index(DX_V).store(dx_v)
            s_ds_at.store(S_dS)
            # The dq before has left this tile: the loop over V waited for its stores and for all that were older.
            dq_tile.index(0).reshape([C, BK]).store(dq_hat.to(DT))
            fence_async_shared()
            gl.thread_barrier()
            mbarrier.arrive(hands.index(QUERIES_SUMMED), count=1)
            mbarrier.arrive(keys_empty.index(key_stage), count=1)
            store_tokens(dq_tile.index(0), dq, dq_ragged, batch, token, token + count, head, key_tile * BK, C, K)
            m += 1
    tma.store_wait(0)


@gluon.jit
def _keys(
    work, values, keys, small, dM_tile, dk_tile, dk, dk_ragged,
    K: gl.constexpr, VALUE_TILES: gl.constexpr, KEY_TILES: gl.constexpr, NORMALIZE: gl.constexpr,
):  # fmt: skip
    """The warpgroup of dk."""
    do_ring, dx_ring, delta_ring, v_ring, s_ring, ds_ring, full, empty = values
    q_ring, k_ring, row_ring, keys_full, keys_empty, rows_full = keys
    dPs_tile, sums_at, s_ds_at, hands = small
    items, T, H, HV, cu_seqlens, chunk_starts, chunk_sequence = work
    C: gl.constexpr = do_ring.shape[2]
    VB: gl.constexpr = do_ring.shape[4]
    BK: gl.constexpr = q_ring.shape[4]
    STAGES: gl.constexpr = do_ring.shape[0]
    KEY_STAGES: gl.constexpr = q_ring.shape[0]
    ROW_COUNT: gl.constexpr = 4 if NORMALIZE else 2
    DT: gl.constexpr = q_ring.dtype
    BY_KEY: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BK, 16])  # accumulator [tokens, BK]
    BY_TOKEN: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, C, 16])  # accumulator [tokens, tokens]
    LEFT: gl.constexpr = gl.DotOperandLayout(0, BY_KEY, 2)
    TOKENS: gl.constexpr = gl.SliceLayout(1, BY_KEY)

    n = 0  # tiles of V, of all items
    m = 0  # items
    for item in range(gl.program_id(0), items, gl.num_programs(0)):
        batch, token, count, head, block, key_tile = _locate(item, work, KEY_TILES, C)
        if count > 0:
            row_slot = m % (KEY_STAGES + 2)
            row = row_slot * ROW_COUNT

            rows = gl.zeros([C, BK], gl.float32, BY_KEY)
            cols = gl.zeros([C, BK], gl.float32, BY_KEY)
            dA = gl.zeros([C, C], gl.float32, BY_TOKEN)
            for _ in range(VALUE_TILES):
                stage = n % STAGES
                mbarrier.wait(full.index(stage), (n // STAGES) & 1)
                dx_tile = dx_ring.index(stage).reshape([C, VB])
                delta_tile = delta_ring.index(stage).reshape([C, VB])
                S_tile = s_ring.index(stage).reshape([BK, VB])
                dS_tile = ds_ring.index(stage).reshape([BK, VB])
                rows = warpgroup_mma(dx_tile, S_tile.permute((1, 0)), rows, is_async=True)
                dA = warpgroup_mma(dx_tile, delta_tile.permute((1, 0)), dA, is_async=True)
                cols = warpgroup_mma(delta_tile, dS_tile.permute((1, 0)), cols, is_async=True)
                waited = warpgroup_mma_wait(0, deps=(rows, dA, cols))
                rows = waited[0]
                dA = waited[1]
                cols = waited[2]
                gl.thread_barrier()
                mbarrier.arrive(empty.index(stage), count=1)
                n += 1

            mbarrier.wait(rows_full.index(row_slot), (m // (KEY_STAGES + 2)) & 1)
            decay_at = row_ring.index(row + DECAY)
            beta_at = row_ring.index(row + BETA)
            dM = _decayed(dA, decay_at, count, BY_TOKEN, 1)
            strength = -beta_at.load(gl.SliceLayout(1, BY_TOKEN))
            if NORMALIZE:
                dM *= row_ring.index(row + RK).load(gl.SliceLayout(0, BY_TOKEN))[None, :]
                strength *= row_ring.index(row + RK).load(gl.SliceLayout(1, BY_TOKEN))
            left = gl.convert_layout((-dM).to(DT), LEFT, assert_trivial=True)
            dM *= strength[:, None]
            if NORMALIZE:
                dM = bounded(dM, DT)
            dM_tile.store(dM.to(DT))
            fence_async_shared()
            gl.thread_barrier()

            # While row = dM k^ - e (dX S^T) runs, the sums of k^ with w; then col, for which dPs must have come.
            decay = decay_at.load(TOKENS)
            rows *= -gl.exp2(decay)[:, None]
            factor = gl.exp2(decay_at.slice(C - 1, 1).load(TOKENS) - decay)
            if NORMALIZE:
                factor *= row_ring.index(row + RK).load(TOKENS)
            cols *= factor[:, None]
            key_stage = m % KEY_STAGES
            mbarrier.wait(keys_full.index(key_stage), (m // KEY_STAGES) & 1)
            q_tile = q_ring.index(key_stage).reshape([C, BK])
            k_tile = k_ring.index(key_stage).reshape([C, BK])
            rows = warpgroup_mma(left, k_tile, rows, is_async=True)
            k_w = gl.sum(k_tile.load(BY_KEY).to(gl.float32) * cols, 1)
            cols = warpgroup_mma(dM_tile.permute((1, 0)), k_tile, cols, is_async=True)
            mbarrier.wait(hands.index(DPS_WRITTEN), m & 1)
            cols = warpgroup_mma(dPs_tile.permute((1, 0)), q_tile, cols, is_async=True)
            waited = warpgroup_mma_wait(0, deps=(rows, cols, left))
            rows = waited[0]
            cols = waited[1]

            key = k_tile.load(BY_KEY)  # again, for there is no room to keep it
            k_row = gl.sum(key.to(gl.float32) * rows, 1)
            k_col = gl.sum(key.to(gl.float32) * cols, 1)
            strength = beta_at.load(TOKENS)
            if NORMALIZE:
                rk = row_ring.index(row + RK).load(TOKENS)
                k_row *= rk
                if KEY_TILES == 1:
                    cols -= (rk * rk * (strength * k_row + k_col))[:, None] * key.to(gl.float32)
                strength *= rk
            dk_hat = strength[:, None] * rows + cols
            mbarrier.wait(hands.index(SUMS_TAKEN), (m & 1) ^ 1)
            sums_at.index(K_ROW).store(k_row)
            sums_at.index(K_COL).store(k_col)
            sums_at.index(K_W).store(k_w)
            # The dk before has left.
            tma.store_wait(0)
            gl.thread_barrier()
            mbarrier.arrive(hands.index(DPS_TAKEN), count=1)
            mbarrier.arrive(hands.index(KEYS_SUMMED), count=1)
            mbarrier.arrive(keys_empty.index(key_stage), count=1)
            dk_tile.index(0).reshape([C, BK]).store(dk_hat.to(DT))
            fence_async_shared()
            gl.thread_barrier()
            store_tokens(dk_tile.index(0), dk, dk_ragged, batch, token, token + count, head, key_tile * BK, C, K)
            m += 1
    tma.store_wait(0)


@gluon.jit
def _gates(
    work, keys, small, gate_arguments, token_strides,
    C: gl.constexpr, KEY_TILES: gl.constexpr, NORMALIZE: gl.constexpr,
):  # fmt: skip
    """The warp of dg and dbeta: what the warpgroups summed, through the decay's cumulative sum, gate and sigmoid."""
    q_ring, k_ring, row_ring, keys_full, keys_empty, rows_full = keys
    dPs_tile, sums_at, s_ds_at, hands = small
    items, T, H, HV, cu_seqlens, chunk_starts, chunk_sequence = work
    g, A_log, dt_bias, dg, dbeta, d_gate, sums, gate_scale, beta_range = gate_arguments
    g_sb, g_st, g_sh, dg_sb, dg_st, dg_sh, dbeta_sb, dbeta_st, dbeta_sh = token_strides
    KEY_STAGES: gl.constexpr = q_ring.shape[0]
    ROW_COUNT: gl.constexpr = 4 if NORMALIZE else 2

    t = gl.arange(0, C, SCAN)
    slots = items // KEY_TILES
    m = 0  # items
    for item in range(gl.program_id(0), items, gl.num_programs(0)):
        batch, token, count, head, block, key_tile = _locate(item, work, KEY_TILES, C)
        if count > 0:
            here = t < count
            wide_batch = batch.to(gl.int64)
            tokens = token.to(gl.int64) + t
            if A_log is not None and KEY_TILES == 1:
                at = g + wide_batch * g_sb + head * g_sh + tokens * g_st
                raw = gl.load(at, mask=here, other=0.0).to(gl.float32)
                log_rate = gl.load(A_log + head)
                bias = gl.load(dt_bias + head)

            row_slot = m % (KEY_STAGES + 2)
            mbarrier.wait(rows_full.index(row_slot), (m // (KEY_STAGES + 2)) & 1)
            beta = row_ring.index(row_slot * ROW_COUNT + BETA).load(SCAN)
            total = gl.exp2(row_ring.index(row_slot * ROW_COUNT + DECAY).slice(C - 1, 1).load(SCAN))
            mbarrier.wait(hands.index(QUERIES_SUMMED), m & 1)
            q_dq = sums_at.index(Q_DQ).load(SCAN)
            dbeta_sum = sums_at.index(DX_V).load(SCAN)
            last = total * gl.sum(s_ds_at.load(SCAN), 0)
            mbarrier.wait(hands.index(KEYS_SUMMED), m & 1)
            k_row = sums_at.index(K_ROW).load(SCAN)
            k_col = sums_at.index(K_COL).load(SCAN)
            last += gl.sum(gl.where(here, sums_at.index(K_W).load(SCAN), 0.0), 0)
            gl.thread_barrier()
            mbarrier.arrive(hands.index(SUMS_TAKEN), count=1)

            dG = gl.where(here, q_dq + beta * k_row - k_col, 0.0)
            if beta_range is None:
                dbeta_sum += k_row
            if KEY_TILES > 1:
                at = sums + (key_tile.to(gl.int64) * slots + block) * (4 * C) + t
                gl.store(at, dG + gl.where(t == C - 1, last, 0.0))
                gl.store(at + C, dbeta_sum)
                gl.store(at + 2 * C, q_dq)
                gl.store(at + 3 * C, beta * k_row + k_col)
            else:
                d_decay = gl.associative_scan(dG, 0, _add, reverse=True) + last
                if A_log is not None:
                    d_bias = d_decay * gates.log_decay_slope(raw, log_rate, bias, gate_scale)
                    d_log_rate = d_decay * gates.log_decay(raw, log_rate, bias, gate_scale)
                    gl.store(d_gate + block, gl.sum(gl.where(here, d_log_rate, 0.0), 0))
                    gl.store(d_gate + slots + block, gl.sum(gl.where(here, d_bias, 0.0), 0))
                    d_decay = d_bias * gate_scale
                if beta_range is not None:
                    # The sum is dX . Delta = beta times the gradient of beta, and beta' = beta (1 - beta / range).
                    dbeta_sum = dbeta_sum * (1.0 - beta / beta_range) * gate_scale
                at = dg + wide_batch * dg_sb + head * dg_sh + tokens * dg_st
                gl.store(at, d_decay.to(dg.dtype.element_ty), mask=here)
                at = dbeta + wide_batch * dbeta_sb + head * dbeta_sh + tokens * dbeta_st
                gl.store(at, dbeta_sum.to(dbeta.dtype.element_ty), mask=here)
            m += 1


@gluon.jit
def _decayed(x, decay_at, count, LAYOUT: gl.constexpr, DIAGONAL: gl.constexpr):
    """Return ``x_ij exp2(decay_i - decay_j)`` for ``j + DIAGONAL <= i < count``, else 0 whatever x is."""
    i = gl.arange(0, x.shape[0], gl.SliceLayout(1, LAYOUT))[:, None]
    j = gl.arange(0, x.shape[1], gl.SliceLayout(0, LAYOUT))[None, :]
    D = decay_at.load(gl.SliceLayout(1, LAYOUT))[:, None] - decay_at.load(gl.SliceLayout(0, LAYOUT))[None, :]
    return gl.where((i >= j + DIAGONAL) & (i < count), x * gl.exp2(D), 0.0)


@gluon.jit
def _add(x, y):
    """Return the sum: what a scan combines by."""
    return x + y
