"""The gradients of the inputs, for all chunks at once, from what the two walks left behind.

With S and Delta from `scan`, dS and dX from `reverse`, hats for normalized q and k, and rows as tokens (the solve form:
the inverse T does not appear, since ``dA = -tril(dX Delta^T)``):

    dPs = scale * (dO Delta^T) . D               dM = -tril(dX Delta^T, -1) . D
    dq^ = scale e (dO S^T) + dPs k^              row = dM k^ - e (dX S^T)          (to be multiplied by beta)
    w   = exp(G_last - G) (Delta dS^T)           col = w + dPs^T q^ + dM^T (beta k^)
    dk^ = beta row + col                         dv  = beta dX
    dbeta_i = dX_i . v_i + k^_i . row_i
    dG_i = q^_i . dq^_i + k^_i . (beta row_i - col_i);  dG_last += sum_i k^_i . w_i + total <S, dS>
    dg = reverse cumulative sum of dG in the chunk

and through the norm ``dq = rq (dq^ - q^ (q^ . dq^))``, the gate and the sigmoid to the raw arguments.

With raw q and k the norms' factors go into the small matrices, so that q and k enter products as loaded, and what is
called dq^ and dk^ here is ``rq dq^`` and ``rk dk^``: then ``q^ . dq^ = q . (rq dq^)``. And dPs becomes one matrix,
``rq_i dPs_ij rk_j``, for dq as for dk. It must be: in dG a token's own term of dPs, which no decay changes, is added
from dq^ and taken away again from col. Under strong decay all else is small beside it, also beside a rounding of it.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.gated_delta.gpu import gates
from gdnbench_kernels.gated_delta.gpu.configurations import configuration
from gdnbench_kernels.gated_delta.gpu.layout import CHUNK, Layout, cdiv, locate_chunk, strides
from gdnbench_kernels.launching import launch

# Sums over K that a tile of K contributes to, in the order of the partial sums [tiles, N, HV, 4, C].
SUMS = ("dG", "dbeta", "q_dq", "k_dk")


def key_tiles(layout: Layout, device: torch.device) -> int:
    """Return how many programs share a chunk of a head, each with a tile of K."""
    return cdiv(layout.key_dim, configuration("gradients", device, layout)["BK"])


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
) -> None:
    """Write the gradients of the arguments.

    Args:
        layout: sizes.
        q, k, v, g, beta, scale, A_log, dt_bias, gate_scale, beta_range, normalize: the arguments of the forward pass.
        do: gradient of the output.
        dx, delta, states, dstates, rows: as the package describes.
        dq, dk: by value head, ``[B, T, HV, K]``, written.
        dv, dg, dbeta: in the shapes of v, g and beta, written. ``dv`` may be ``dx`` itself where `key_tiles` is 1.
        d_gate: float32 ``[2, N, HV]``, written: by chunk, what adds up to the gradients of A_log and dt_bias.
    """
    KP = triton.next_power_of_2(layout.key_dim)
    chosen = configuration("gradients", q.device, layout)
    BK = min(KP, chosen.pop("BK"))
    tiles = cdiv(layout.key_dim, BK)
    # One program sees all of K, or partial sums go through memory and `finish` closes the rows.
    sums = None
    if tiles > 1:
        size = (tiles, layout.chunks, layout.value_heads, len(SUMS), CHUNK)
        sums = torch.empty(size, device=q.device, dtype=torch.float32)
    shared = dict(
        q=q,
        k=k,
        g=g,
        beta=beta,
        A_log=A_log,
        dt_bias=dt_bias,
        rows=rows,
        dq=dq,
        dk=dk,
        dg=dg,
        dbeta=dbeta,
        d_gate=d_gate,
        sums=sums,
        **strides(q=q, k=k, g=g, beta=beta, dq=dq, dk=dk, dg=dg, dbeta=dbeta),
        **layout.kernel_arguments(),
        chunk_sequence=layout.chunk_sequence,
        gate_scale=float(gate_scale),
        beta_range=beta_range,
        C=CHUNK,
        K=layout.key_dim,
        BK=BK,
        R=rows.shape[2],
        NORMALIZE=normalize,
    )
    launch(
        gradients_kernel,
        (layout.chunks, layout.value_heads, tiles),
        v=v,
        do=do,
        dx=dx,
        delta=delta,
        states=states,
        dstates=dstates,
        dv=dv,
        **strides(v=v, do=do, dx=dx, delta=delta, dv=dv),
        scale=float(scale),
        V=layout.value_dim,
        **shared,
        **chosen,
    )
    if sums is not None:
        launch(finish_kernel, (layout.chunks, layout.value_heads), TILES=tiles, num_warps=4, **shared)


@triton.jit(do_not_specialize=["T", "scale", "gate_scale"])
def gradients_kernel(
    q, k, v, g, beta, A_log, dt_bias, do, dx, delta, states, dstates, rows, dq, dk, dv, dg, dbeta, d_gate, sums,
    q_sb, q_st, q_sh, k_sb, k_st, k_sh, v_sb, v_st, v_sh, g_sb, g_st, g_sh, beta_sb, beta_st, beta_sh,
    do_sb, do_st, do_sh, dx_sb, dx_st, dx_sh, delta_sb, delta_st, delta_sh, dq_sb, dq_st, dq_sh, dk_sb, dk_st, dk_sh,
    dv_sb, dv_st, dv_sh, dg_sb, dg_st, dg_sh, dbeta_sb, dbeta_st, dbeta_sh,
    T, H, HV, cu_seqlens, chunk_starts, chunk_sequence, scale, gate_scale, beta_range,
    C: tl.constexpr, K: tl.constexpr, BK: tl.constexpr, V: tl.constexpr, VB: tl.constexpr, R: tl.constexpr,
    NORMALIZE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Program (slot, value head, tile of K): one chunk of one head.

    A loop over tiles of V accumulates, in registers, three transposed products ``[BK, C]`` (S dO^T, S dX^T,
    dS Delta^T: left operands as loaded) and the two ``[C, C]`` ones; then everything else happens on those.
    """
    slot = tl.program_id(0)
    head = tl.program_id(1)
    k_tile_index = tl.program_id(2)
    DT: tl.constexpr = k.dtype.element_ty
    batch, first, count = locate_chunk(slot, T, cu_seqlens, chunk_starts, chunk_sequence, C)
    if count <= 0:
        return
    batch = batch.to(tl.int64)
    first = first.to(tl.int64)
    key_head = head // (HV // H)
    block = slot.to(tl.int64) * HV + head
    t = tl.arange(0, C)
    here = t < count
    kc = k_tile_index * BK + tl.arange(0, BK)
    in_k = kc < K

    beta_row = tl.load(rows + block * R * C + t)
    do += batch * do_sb + first * do_st + head * do_sh
    dx += batch * dx_sb + first * dx_st + head * dx_sh
    dv += batch * dv_sb + first * dv_st + head * dv_sh
    v += batch * v_sb + first * v_st + head * v_sh
    delta += batch * delta_sb + first * delta_st + head * delta_sh

    S_do = tl.zeros([BK, C], tl.float32)
    S_dx = tl.zeros([BK, C], tl.float32)
    dS_delta = tl.zeros([BK, C], tl.float32)
    dP = tl.zeros([C, C], tl.float32)
    dA = tl.zeros([C, C], tl.float32)
    S_dS = tl.zeros([BK], tl.float32)
    dx_v = tl.zeros([C], tl.float32)
    for start in tl.range(0, V, VB, num_stages=STAGES):
        vc = start + tl.arange(0, VB)
        inside = here[:, None] & (vc < V)[None, :]
        do_tile = tl.load(do + t[:, None] * do_st + vc[None, :], mask=inside, other=0.0)
        dx_tile = tl.load(dx + t[:, None] * dx_st + vc[None, :], mask=inside, other=0.0)
        delta_tile = tl.load(delta + t[:, None] * delta_st + vc[None, :], mask=inside, other=0.0)
        at = block * K * V + kc[:, None] * V + vc[None, :]
        S = tl.load(states + at, mask=in_k[:, None] & (vc < V)[None, :], other=0.0)
        dS = tl.load(dstates + at, mask=in_k[:, None] & (vc < V)[None, :], other=0.0)
        dP = tl.dot(do_tile, tl.trans(delta_tile), dP, input_precision="ieee")
        dA = tl.dot(dx_tile, tl.trans(delta_tile), dA, input_precision="ieee")
        S_do = tl.dot(S, tl.trans(do_tile), S_do, input_precision="ieee")
        S_dx = tl.dot(S, tl.trans(dx_tile), S_dx, input_precision="ieee")
        dS_delta = tl.dot(dS, tl.trans(delta_tile), dS_delta, input_precision="ieee")
        S_dS += tl.sum(S.to(tl.float32) * dS.to(tl.float32), 1)
        dx_wide = dx_tile.to(tl.float32)
        if beta_range is None:
            v_tile = tl.load(v + t[:, None] * v_st + vc[None, :], mask=inside, other=0.0)
            dx_v += tl.sum(dx_wide * v_tile.to(tl.float32), 1)
        else:
            dx_v += tl.sum(dx_wide * delta_tile.to(tl.float32), 1)
        if k_tile_index == 0:
            tl.store(dv + t[:, None] * dv_st + vc[None, :], (beta_row[:, None] * dx_wide).to(DT), mask=inside)

    row_factors = rows + block * R * C + t
    decay = tl.load(row_factors + 4 * C)
    total = tl.load(rows + block * R * C + 5 * C - 1)
    q += batch * q_sb + first * q_st + key_head * q_sh
    k += batch * k_sb + first * k_st + key_head * k_sh
    transposed = here[None, :] & in_k[:, None]
    qT = tl.load(q + t[None, :] * q_st + kc[:, None], mask=transposed, other=0.0)
    kT = tl.load(k + t[None, :] * k_st + kc[:, None], mask=transposed, other=0.0)
    e = tl.exp2(decay)
    w = tl.exp2(total - decay)
    D = tl.exp2(tl.where(t[:, None] >= t[None, :], decay[:, None] - decay[None, :], float("-inf")))
    dPs = dP * D * scale
    dM = tl.where(t[:, None] > t[None, :], -dA, 0.0) * D
    e_q, w_k, strength = scale * e, w, beta_row
    if NORMALIZE:
        rq = tl.load(row_factors + 5 * C)
        rk = tl.load(row_factors + 6 * C)
        e_q, w_k, strength = e_q * rq, w_k * rk, strength * rk
        dPs = bounded(dPs * rq[:, None] * rk[None, :], DT)
        dM = dM * rk[None, :]
    dq_hat = tl.dot(kT, tl.trans(dPs.to(DT)), S_do * e_q[None, :], input_precision="ieee")
    row = tl.dot(kT, tl.trans(dM.to(DT)), S_dx * (-e)[None, :], input_precision="ieee")
    col = dS_delta * w_k[None, :]
    key = kT.to(tl.float32)
    last = tl.sum(key * col) + tl.exp2(total) * tl.sum(S_dS, 0)
    col = tl.dot(qT, dPs.to(DT), col, input_precision="ieee")
    col = tl.dot(kT, bounded(dM * strength[:, None], DT).to(DT), col, input_precision="ieee")

    q_dq = tl.sum(qT.to(tl.float32) * dq_hat, 0)
    k_row = tl.sum(key * row, 0)
    if NORMALIZE:
        k_row *= rk
    k_col = tl.sum(key * col, 0)
    dG = q_dq + beta_row * k_row - k_col + tl.where(t == C - 1, last, 0.0)
    k_dk = beta_row * k_row + k_col
    dbeta_sum = tl.where(k_tile_index == 0, dx_v, 0.0)  # the sum over V is that of every tile of K: it counts once
    if beta_range is None:
        dbeta_sum += k_row
    dk_hat = strength[None, :] * row + col
    if sums is None:
        if NORMALIZE:
            dq_hat -= (rq * rq * q_dq)[None, :] * qT.to(tl.float32)
            dk_hat -= (rk * rk * k_dk)[None, :] * key
        close_gates(
            g, beta, A_log, dt_bias, dg, dbeta, d_gate, dG, dbeta_sum, beta_row,
            g_sb, g_st, g_sh, beta_sb, beta_st, beta_sh, dg_sb, dg_st, dg_sh, dbeta_sb, dbeta_st, dbeta_sh,
            batch, first, count, head, block, tl.num_programs(0).to(tl.int64) * HV, gate_scale, beta_range, C,
        )  # fmt: skip
    else:
        at = sums + (k_tile_index * tl.num_programs(0).to(tl.int64) * HV + block) * 4 * C + t
        tl.store(at, dG)
        tl.store(at + C, dbeta_sum)
        tl.store(at + 2 * C, q_dq)
        tl.store(at + 3 * C, k_dk)
    dq += batch * dq_sb + first * dq_st + head * dq_sh
    dk += batch * dk_sb + first * dk_st + head * dk_sh
    tl.store(dq + t[None, :] * dq_st + kc[:, None], dq_hat.to(DT), mask=transposed)
    tl.store(dk + t[None, :] * dk_st + kc[:, None], dk_hat.to(DT), mask=transposed)


@triton.jit(do_not_specialize=["T", "gate_scale"])
def finish_kernel(
    q, k, g, beta, A_log, dt_bias, rows, dq, dk, dg, dbeta, d_gate, sums,
    q_sb, q_st, q_sh, k_sb, k_st, k_sh, g_sb, g_st, g_sh, beta_sb, beta_st, beta_sh, dq_sb, dq_st, dq_sh,
    dk_sb, dk_st, dk_sh, dg_sb, dg_st, dg_sh, dbeta_sb, dbeta_st, dbeta_sh,
    T, H, HV, cu_seqlens, chunk_starts, chunk_sequence, gate_scale, beta_range,
    C: tl.constexpr, K: tl.constexpr, BK: tl.constexpr, R: tl.constexpr, NORMALIZE: tl.constexpr,
    TILES: tl.constexpr,
):  # fmt: skip
    """Program (slot, value head): add up the partial sums of the tiles of K; close the gates and the norms."""
    slot = tl.program_id(0)
    head = tl.program_id(1)
    batch, first, count = locate_chunk(slot, T, cu_seqlens, chunk_starts, chunk_sequence, C)
    if count <= 0:
        return
    batch = batch.to(tl.int64)
    first = first.to(tl.int64)
    key_head = head // (HV // H)
    block = slot.to(tl.int64) * HV + head
    slots = tl.num_programs(0).to(tl.int64) * HV
    t = tl.arange(0, C)
    here = t < count
    dG = tl.zeros([C], tl.float32)
    dbeta_sum = tl.zeros([C], tl.float32)
    q_dq = tl.zeros([C], tl.float32)
    k_dk = tl.zeros([C], tl.float32)
    for i in tl.static_range(TILES):
        at = sums + (i * slots + block) * 4 * C + t
        dG += tl.load(at)
        dbeta_sum += tl.load(at + C)
        q_dq += tl.load(at + 2 * C)
        k_dk += tl.load(at + 3 * C)
    row_factors = rows + block * R * C + t
    close_gates(
        g, beta, A_log, dt_bias, dg, dbeta, d_gate, dG, dbeta_sum, tl.load(row_factors),
        g_sb, g_st, g_sh, beta_sb, beta_st, beta_sh, dg_sb, dg_st, dg_sh, dbeta_sb, dbeta_st, dbeta_sh,
        batch, first, count, head, block, slots, gate_scale, beta_range, C,
    )  # fmt: skip
    if NORMALIZE:
        rq = tl.load(row_factors + 5 * C)
        rk = tl.load(row_factors + 6 * C)
        q += batch * q_sb + first * q_st + key_head * q_sh
        k += batch * k_sb + first * k_st + key_head * k_sh
        dq += batch * dq_sb + first * dq_st + head * dq_sh
        dk += batch * dk_sb + first * dk_st + head * dk_sh
        for i in tl.static_range(TILES):
            kc = i * BK + tl.arange(0, BK)
            inside = here[:, None] & (kc < K)[None, :]
            query = tl.load(q + t[:, None] * q_st + kc[None, :], mask=inside, other=0.0).to(tl.float32)
            key = tl.load(k + t[:, None] * k_st + kc[None, :], mask=inside, other=0.0).to(tl.float32)
            at_q = dq + t[:, None] * dq_st + kc[None, :]
            at_k = dk + t[:, None] * dk_st + kc[None, :]
            dq_hat = tl.load(at_q, mask=inside, other=0.0).to(tl.float32)
            dk_hat = tl.load(at_k, mask=inside, other=0.0).to(tl.float32)
            dq_hat -= (rq * rq * q_dq)[:, None] * query
            dk_hat -= (rk * rk * k_dk)[:, None] * key
            tl.store(at_q, dq_hat.to(dq.dtype.element_ty), mask=inside)
            tl.store(at_k, dk_hat.to(dk.dtype.element_ty), mask=inside)


@triton.jit
def bounded(x, TYPE: tl.constexpr):
    """Return numbers that float16 holds: only where rows of q and k are 0 are factors that large, and so multiply 0."""
    if TYPE == tl.float16:
        x = tl.minimum(tl.maximum(x, -65504.0), 65504.0)
    return x


@triton.jit
def close_gates(
    g, beta, A_log, dt_bias, dg, dbeta, d_gate, dG, dbeta_sum, beta_row,
    g_sb, g_st, g_sh, beta_sb, beta_st, beta_sh, dg_sb, dg_st, dg_sh, dbeta_sb, dbeta_st, dbeta_sh,
    batch, first, count, head, block, slots, gate_scale, beta_range, C: tl.constexpr,
):  # fmt: skip
    """Write dg and dbeta of a chunk's tokens, through gate and sigmoid where they are fused."""
    t = tl.arange(0, C)
    here = t < count
    d_decay = tl.cumsum(dG, 0, reverse=True)
    if A_log is not None:
        raw = tl.load(g + batch * g_sb + (first + t) * g_st + head * g_sh, mask=here, other=0.0).to(tl.float32)
        log_rate = tl.load(A_log + head)
        bias = tl.load(dt_bias + head)
        d_bias = d_decay * gates.log_decay_slope(raw, log_rate, bias, gate_scale)
        d_log_rate = d_decay * gates.log_decay(raw, log_rate, bias, gate_scale)
        tl.store(d_gate + block, tl.sum(tl.where(here, d_log_rate, 0.0), 0))
        tl.store(d_gate + slots + block, tl.sum(tl.where(here, d_bias, 0.0), 0))
        d_decay = d_bias * gate_scale
    if beta_range is not None:
        # dbeta_sum is dX . Delta = beta times the gradient of beta, and beta' = beta (1 - beta / range).
        dbeta_sum = dbeta_sum * (1.0 - beta_row / beta_range) * gate_scale
    at = dg + batch * dg_sb + (first + t) * dg_st + head * dg_sh
    tl.store(at, d_decay.to(dg.dtype.element_ty), mask=here)
    at = dbeta + batch * dbeta_sb + (first + t) * dbeta_st + head * dbeta_sh
    tl.store(at, dbeta_sum.to(dbeta.dtype.element_ty), mask=here)
