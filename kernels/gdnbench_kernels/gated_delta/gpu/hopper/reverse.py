"""`reverse` for sm_90 in Gluon: draft."""

import torch
import triton
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
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from gdnbench_kernels.gated_delta.gpu.layout import CHUNK, Layout, locate_piece
from gdnbench_kernels.launching import launch


@gluon.jit
def reverse_kernel(
    q, k, do, inverse, attention, rows, dstates, dx, dx_pointer, dx_st, dx_sh, final_grad, initial_grad,
    T, H, HV, cu_seqlens, chunk_starts, segments, tiles,
    C: gl.constexpr, K: gl.constexpr, V: gl.constexpr, R: gl.constexpr,
    SLICE: gl.constexpr, SLICES: gl.constexpr, WARPGROUPS: gl.constexpr, STAGES: gl.constexpr,
    STAGED: gl.constexpr, TIGHT: gl.constexpr,
):  # fmt: skip
    DT: gl.constexpr = k.dtype
    k_ring = gl.allocate_shared_memory(DT, [STAGES * SLICES, 1, C, 1, SLICE], k.layout)
    q_ring = gl.allocate_shared_memory(DT, [STAGES * SLICES, 1, C, 1, SLICE], q.layout)
    do_ring = gl.allocate_shared_memory(DT, [STAGES * WARPGROUPS, 1, C, 1, 64], do.layout)
    t_ring = gl.allocate_shared_memory(DT, [STAGES, C, C], inverse.layout)
    p_ring = gl.allocate_shared_memory(DT, [STAGES, C, C], attention.layout)
    row_ring = gl.allocate_shared_memory(gl.float32, [STAGES, 4, C], rows.layout)
    state_tile = gl.allocate_shared_memory(DT, [WARPGROUPS * STAGED, 1, SLICE, 64], dstates.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=WARPGROUPS)
    fence_async_shared()

    program = gl.program_id(0)
    v0 = (program % tiles) * (64 * WARPGROUPS)
    head = (program // tiles) % HV
    piece = program // tiles // HV
    batch, first, end, slot, chunk, chunk_end = locate_piece(piece, segments, T, cu_seqlens, chunk_starts, C)
    count = chunk_end - chunk
    first = first + chunk * C
    place = (piece.to(gl.int64) * HV + head) * K * V
    block = (slot + chunk) * HV + head

    shared = (k_ring, q_ring, do_ring, t_ring, p_ring, row_ring, full, empty)
    common = (batch, first, head, v0, block, HV, count)
    state = (dstates, dx, dx_pointer, dx_st, dx_sh, final_grad, initial_grad, end, place, state_tile, cu_seqlens)
    gl.warp_specialize(
        [
            (walk, (shared, common, state, 0, C, K, V, SLICE, SLICES, WARPGROUPS, STAGES, STAGED, TIGHT)),
            (walk, (shared, common, state, 1, C, K, V, SLICE, SLICES, WARPGROUPS, STAGES, STAGED, TIGHT)),
            (load, (q, k, do, inverse, attention, rows, shared, common, head // (HV // H), R, C, K, V, SLICE, SLICES, WARPGROUPS, STAGES, STAGED, TIGHT)),
        ],
        [4, 1],
        [240, 24],
    )


@gluon.jit
def load(q, k, do, inverse, attention, rows, shared, common, key_head, R: gl.constexpr, C: gl.constexpr, K: gl.constexpr, V: gl.constexpr, SLICE: gl.constexpr, SLICES: gl.constexpr, WARPGROUPS: gl.constexpr, STAGES: gl.constexpr, STAGED: gl.constexpr, TIGHT: gl.constexpr):
    k_ring, q_ring, do_ring, t_ring, p_ring, row_ring, full, empty = shared
    batch, first, head, v0, block, HV, count = common
    BYTES: gl.constexpr = (
        SLICES * (q.block_type.nbytes + k.block_type.nbytes)
        + WARPGROUPS * do.block_type.nbytes
        + inverse.block_type.nbytes
        + attention.block_type.nbytes
        + rows.block_type.nbytes
    )
    for i in range(count):
        n = count - 1 - i
        s = i % STAGES
        mbarrier.wait(empty.index(s), (i // STAGES & 1) ^ 1)
        ready = full.index(s)
        mbarrier.expect(ready, BYTES)
        token = first + n * C
        at = block + n * HV
        for j in gl.static_range(SLICES):
            tma.async_copy_global_to_shared(k, [batch, token, key_head, j * SLICE], ready, k_ring.index(s * SLICES + j))
        for w in gl.static_range(WARPGROUPS):
            tma.async_copy_global_to_shared(
                do, [batch, token, head, v0 + w * 64], ready, do_ring.index(s * WARPGROUPS + w)
            )
        tma.async_copy_global_to_shared(attention, [at * C, 0], ready, p_ring.index(s))
        tma.async_copy_global_to_shared(rows, [at * R + 1, 0], ready, row_ring.index(s))
        tma.async_copy_global_to_shared(inverse, [at * C, 0], ready, t_ring.index(s))
        for j in gl.static_range(SLICES):
            tma.async_copy_global_to_shared(q, [batch, token, key_head, j * SLICE], ready, q_ring.index(s * SLICES + j))


@gluon.jit
def walk(shared, common, state, W: gl.constexpr, C: gl.constexpr, K: gl.constexpr, V: gl.constexpr, SLICE: gl.constexpr, SLICES: gl.constexpr, WARPGROUPS: gl.constexpr, STAGES: gl.constexpr, STAGED: gl.constexpr, TIGHT: gl.constexpr):
    k_ring, q_ring, do_ring, t_ring, p_ring, row_ring, full, empty = shared
    batch, first, head, v0, block, HV, count = common
    dstates, dx, dx_pointer, dx_st, dx_sh, final_grad, initial_grad, end, place, state_tile, cu_seqlens = state
    DT: gl.constexpr = dstates.dtype
    WIDE: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, SLICE, 16])
    ACC: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, C, 16])
    LEFT: gl.constexpr = gl.DotOperandLayout(0, ACC, 2)
    BYTOKEN: gl.constexpr = gl.SliceLayout(0, ACC)
    LEFTTOKEN: gl.constexpr = gl.SliceLayout(0, LEFT)
    FLAT: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    v0 = v0 + W * 64
    vc = v0 + gl.arange(0, 64, gl.SliceLayout(1, WIDE))
    kc = gl.arange(0, SLICE, gl.SliceLayout(0, WIDE))

    dS = ()
    for j in gl.static_range(SLICES):
        if final_grad is not None:
            where = place + (j * SLICE + kc)[None, :] * V + vc[:, None]
            tile = gl.load(final_grad + where, mask=(j * SLICE + kc < K)[None, :] & (vc < V)[:, None], other=0.0)
        else:
            tile = gl.zeros([64, SLICE], gl.float32, WIDE)
        dS = dS + (tile,)

    for i in range(count):
        n = count - 1 - i
        s = i % STAGES
        token = first + n * C
        at = block + n * HV
        mbarrier.wait(full.index(s), i // STAGES & 1)
        do_tile = do_ring.index(s * WARPGROUPS + W).reshape([C, 64])
        t_tile = t_ring.index(s)
        p_tile = p_ring.index(s)
        row = row_ring.index(s)._reinterpret(gl.float32, [4, C], FLAT)
        last = row_ring.index(s)._reinterpret(gl.float32, [4 * C, 1], FLAT)

        dD = gl.zeros([64, C], gl.float32, ACC)
        for j in gl.static_range(SLICES):
            half = gl.convert_layout(dS[j].to(DT), LEFT)
            k_tile = k_ring.index(s * SLICES + j).reshape([C, SLICE])
            dD = warpgroup_mma(half, k_tile.permute((1, 0)), dD, is_async=True)
            staged = state_tile.index(W * STAGED + j % STAGED)
            if j >= STAGED:
                tma.store_wait(STAGED - 1)
                gl.thread_barrier()
            staged.reshape([SLICE, 64]).permute((1, 0)).store(half)
            fence_async_shared()
            gl.thread_barrier()
            tma.async_copy_shared_to_global(dstates, [at, j * SLICE, v0], staged)
        pd = gl.zeros([64, C], gl.float32, ACC)
        pd = warpgroup_mma(do_tile.permute((1, 0)), p_tile, pd, is_async=True)
        read = row.index(1).load(LEFTTOKEN)
        read_do = (do_tile.permute((1, 0)).load(LEFT).to(gl.float32) * read[None, :]).to(DT)
        total = gl.exp2(last.index(4 * C - 1).load(gl.SliceLayout(0, WIDE)))
        dD, pd = warpgroup_mma_wait(0, deps=[dD, pd])
        write = row.index(2).load(BYTOKEN)
        dD = dD * write[None, :] + pd
        dDh = gl.convert_layout(dD.to(DT), LEFT)
        dX = gl.zeros([64, C], gl.float32, ACC)
        dX = warpgroup_mma(dDh, t_tile, dX, is_async=True)
        new = ()
        for j in gl.static_range(SLICES):
            q_tile = q_ring.index(s * SLICES + j).reshape([C, SLICE])
            new = new + (warpgroup_mma(read_do, q_tile, dS[j] * total[None, :], is_async=True),)
        dX = warpgroup_mma_wait(SLICES, deps=[dX])
        recall = row.index(0).load(BYTOKEN)
        minus = gl.convert_layout((dX * -recall[None, :]).to(DT), LEFT)
        new2 = ()
        for j in gl.static_range(SLICES):
            k_tile = k_ring.index(s * SLICES + j).reshape([C, SLICE])
            new2 = new2 + (warpgroup_mma(minus, k_tile, new[j], is_async=True),)
        do_tile.permute((1, 0)).store(dX.to(DT))
        fence_async_shared()
        gl.thread_barrier()
        tma.async_copy_shared_to_global(dx, [batch, token, head, v0], do_ring.index(s * WARPGROUPS + W))
        if SLICES == 1:
            dS = (warpgroup_mma_wait(0, deps=[new2[0]]),)
        elif SLICES == 2:
            dS = warpgroup_mma_wait(0, deps=[new2[0], new2[1]])
        tma.store_wait(0)
        gl.thread_barrier()
        mbarrier.arrive(empty.index(s), count=1)

    if initial_grad is not None:
        for j in gl.static_range(SLICES):
            where = place + (j * SLICE + kc)[None, :] * V + vc[:, None]
            gl.store(initial_grad + where, dS[j], mask=(j * SLICE + kc < K)[None, :] & (vc < V)[:, None])
