"""The gradients of the inputs, for all chunks at once, from what the two walks left behind.

With S from `scan`, dS and dDelta from `reverse`, rows as tokens, and sums over the heads of a group:

    dPs = (dO Delta^T) . D                            W = dPs . (q k^T)
    dq  = sum_h read (dO S^T) + (sum_h dPs) k         dv = beta dDelta
    dk  = sum_h write (Delta dS^T) + (sum_h dPs)^T q  dbeta_i = dDelta_i . v_i

    have_read_i    = read_i dO_i . (q S)_i            what token i had from the state
    have_written_j = write_j Delta_j . (k dS)_j       what it had from token j
    dg_t = sum_{i >= t} (have_read_i + sum_j (W_ij - W_ji)) + sum_{j < t} have_written_j + total <S, dS>

A log decay's gradient is of all that passes it: from the state at the chunk's start or a token before it, to a token
after it or the chunk's end. The rows and columns of W are sums of the same float32 numbers, so that pairs of tokens on
one side cancel, as they must, however fast the state forgets. (``dO . O - Delta . dDelta`` is as much on paper, but
made of numbers that were rounded apart from each other.)
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.gated_delta.gpu.configurations import configuration
from gdnbench_kernels.gated_delta.gpu.layout import CHUNK, Layout, cdiv, locate_chunk, strides
from gdnbench_kernels.launching import launch

FULL = 264  # programs, two for each of the 132 multiprocessors of a Hopper: heads are taken together beyond that


def parts(layout: Layout) -> int:
    """Return how many programs share the value heads of a key head: each leaves its own share of dq and dk."""
    return layout.value_heads // layout.heads // layout.heads_together(FULL)


def tiles(layout: Layout, device: torch.device) -> tuple[int, int]:
    """Return the tiles of K and of V: each leaves its own share of dg, and each tile of V its own of dbeta."""
    chosen = configuration("ssd_gradients", device, layout)
    return cdiv(layout.key_dim, chosen["BK"]), cdiv(layout.value_dim, chosen["VB"])


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
    """Write the gradients of the arguments, where several programs add to one as the shares of each.

    Args:
        layout: sizes.
        q, k, v: the arguments of the forward pass.
        do: gradient of the output.
        dx, states, dstates, rows: as the package describes; dx is dDelta.
        dq, dk: ``[B, T, H * parts, K]``, written.
        dv: in the shape of v, written; may be ``dx`` itself.
        dg: float32 ``[tiles of K * tiles of V, B, T, HV]``, written.
        dbeta: float32 ``[tiles of V, B, T, HV]``, written.
    """
    chosen: dict[str, Any] = configuration("ssd_gradients", q.device, layout)
    launch(
        gradients_kernel,
        (layout.chunks * cdiv(layout.key_dim, chosen["BK"]), layout.heads * parts(layout)),
        q=q,
        k=k,
        v=v,
        do=do,
        dx=dx,
        states=states,
        dstates=dstates,
        rows=rows,
        dq=dq,
        dk=dk,
        dv=dv,
        dg=dg,
        dbeta=dbeta,
        **strides(q=q, k=k, v=v, do=do, dx=dx, dq=dq, dk=dk, dv=dv),
        **layout.kernel_arguments(),
        chunk_sequence=layout.chunk_sequence,
        share_size=dg.stride(0),
        C=CHUNK,
        K=layout.key_dim,
        V=layout.value_dim,
        R=rows.shape[2],
        TOGETHER=layout.heads_together(FULL),
        **chosen,
    )


@triton.jit(do_not_specialize=["T"])
def gradients_kernel(
    q, k, v, do, dx, states, dstates, rows, dq, dk, dv, dg, dbeta,
    q_sb, q_st, q_sh, k_sb, k_st, k_sh, v_sb, v_st, v_sh, do_sb, do_st, do_sh, dx_sb, dx_st, dx_sh,
    dq_sb, dq_st, dq_sh, dk_sb, dk_st, dk_sh, dv_sb, dv_st, dv_sh,
    T, H, HV, cu_seqlens, chunk_starts, chunk_sequence, share_size,
    C: tl.constexpr, K: tl.constexpr, BK: tl.constexpr, V: tl.constexpr, VB: tl.constexpr, R: tl.constexpr,
    TOGETHER: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Program (slot and tile of K, value heads of one key head): one chunk.

    A loop over heads and tiles of V sums dq^T, dk^T ``[BK, C]`` and dPs ``[C, C]`` in registers. As in the walks,
    computed tiles are right operands only.
    """
    KEY_TILES: tl.constexpr = (K + BK - 1) // BK
    VALUE_TILES: tl.constexpr = (V + VB - 1) // VB
    DT: tl.constexpr = k.dtype.element_ty
    key_tile = tl.program_id(0) % KEY_TILES
    slot = tl.program_id(0) // KEY_TILES
    part = tl.program_id(1)
    batch, first, count = locate_chunk(slot, T, cu_seqlens, chunk_starts, chunk_sequence, C)
    if count <= 0:
        return
    batch = batch.to(tl.int64)
    first = first.to(tl.int64)
    key_head = part * TOGETHER // (HV // H)
    t = tl.arange(0, C)
    here = t < count
    kc = tl.arange(0, BK)
    q += batch * q_sb + first * q_st + key_head * q_sh
    k += batch * k_sb + first * k_st + key_head * k_sh
    do += batch * do_sb + first * do_st
    dx += batch * dx_sb + first * dx_st
    dv += batch * dv_sb + first * dv_st
    v += batch * v_sb + first * v_st

    qk = tl.zeros([C, C], tl.float32)
    for i in tl.static_range(KEY_TILES):
        key_mask = here[:, None] & (i * BK + kc < K)[None, :]
        q_tile = tl.load(q + t[:, None] * q_st + (i * BK + kc)[None, :], mask=key_mask, other=0.0)
        k_tile = tl.load(k + t[:, None] * k_st + (i * BK + kc)[None, :], mask=key_mask, other=0.0)
        qk = tl.dot(q_tile, tl.trans(k_tile), qk, input_precision="ieee")
    # What is above the diagonal is cut off here and at the end, rather than of every head's dPs.
    qk = tl.where(t[:, None] >= t[None, :], qk, 0.0)
    kc += key_tile * BK
    in_k = kc < K
    if KEY_TILES > 1:
        key_mask = here[:, None] & in_k[None, :]
        q_tile = tl.load(q + t[:, None] * q_st + kc[None, :], mask=key_mask, other=0.0)
        k_tile = tl.load(k + t[:, None] * k_st + kc[None, :], mask=key_mask, other=0.0)

    dqT = tl.zeros([BK, C], tl.float32)
    dkT = tl.zeros([BK, C], tl.float32)
    dPs_sum = tl.zeros([C, C], tl.float32)
    for i in tl.range(0, TOGETHER * VALUE_TILES, num_stages=STAGES):
        head = part * TOGETHER + i // VALUE_TILES
        value_tile = i % VALUE_TILES
        vc = value_tile * VB + tl.arange(0, VB)
        block = slot.to(tl.int64) * HV + head
        inside = here[:, None] & (vc < V)[None, :]
        once = inside & (key_tile == 0)  # what does not depend on K
        do_tile = tl.load(do + head * do_sh + t[:, None] * do_st + vc[None, :], mask=inside, other=0.0)
        v_tile = tl.load(v + head * v_sh + t[:, None] * v_st + vc[None, :], mask=inside, other=0.0)
        dx_tile = tl.load(dx + head * dx_sh + t[:, None] * dx_st + vc[None, :], mask=once, other=0.0)
        at = block * K * V + kc[:, None] * V + vc[None, :]
        S = tl.load(states + at, mask=in_k[:, None] & (vc < V)[None, :], other=0.0)
        dS = tl.load(dstates + at, mask=in_k[:, None] & (vc < V)[None, :], other=0.0)
        row = rows + block * R * C
        beta = tl.load(row + t)
        read = tl.load(row + 2 * C + t)
        write = tl.load(row + 3 * C + t) * beta
        decay = tl.load(row + 4 * C + t)
        total = tl.exp2(tl.load(row + 5 * C - 1))

        D = tl.exp2(tl.minimum(decay[:, None] - decay[None, :], 0.0))
        dPs = tl.dot(do_tile, tl.trans(v_tile), input_precision="ieee") * (D * beta[None, :])
        dPs_sum += dPs
        W = dPs * qk
        do_wide = do_tile.to(tl.float32) * read[:, None]
        v_wide = v_tile.to(tl.float32) * write[:, None]
        have_read = tl.sum(tl.dot(q_tile, S, input_precision="ieee") * do_wide, 1)
        have_written = tl.sum(tl.dot(k_tile, dS, input_precision="ieee") * v_wide, 1)
        dqT = tl.dot(S, tl.trans(do_wide.to(DT)), dqT, input_precision="ieee")
        dkT = tl.dot(dS, tl.trans(v_wide.to(DT)), dkT, input_precision="ieee")

        carried = total * tl.sum(S.to(tl.float32) * dS.to(tl.float32))
        between = tl.where(key_tile == 0, tl.sum(W, 1) - tl.sum(W, 0), 0.0)
        d_decay = tl.cumsum(have_read + between, 0, reverse=True)
        d_decay += tl.cumsum(have_written, 0) - have_written + carried
        token = (batch * T + first + t) * HV + head
        share = (key_tile * VALUE_TILES + value_tile) * share_size
        tl.store(dg + share + token, d_decay, mask=here)
        dx_wide = dx_tile.to(tl.float32)
        tl.store(dv + head * dv_sh + t[:, None] * dv_st + vc[None, :], (beta[:, None] * dx_wide).to(DT), mask=once)
        dbeta_sum = tl.sum(dx_wide * v_tile.to(tl.float32), 1)
        tl.store(dbeta + value_tile * share_size + token, dbeta_sum, mask=here & (key_tile == 0))

    dPs_sum = tl.where(t[:, None] >= t[None, :], dPs_sum, 0.0)
    transposed = here[None, :] & in_k[:, None]
    qT = tl.load(q + t[None, :] * q_st + kc[:, None], mask=transposed, other=0.0)
    kT = tl.load(k + t[None, :] * k_st + kc[:, None], mask=transposed, other=0.0)
    dqT = tl.dot(kT, tl.trans(dPs_sum.to(DT)), dqT, input_precision="ieee")
    dkT = tl.dot(qT, dPs_sum.to(DT), dkT, input_precision="ieee")
    dq += batch * dq_sb + first * dq_st + part * dq_sh
    dk += batch * dk_sb + first * dk_st + part * dk_sh
    tl.store(dq + t[None, :] * dq_st + kc[:, None], dqT.to(dq.dtype.element_ty), mask=transposed)
    tl.store(dk + t[None, :] * dk_st + kc[:, None], dkT.to(dk.dtype.element_ty), mask=transposed)
