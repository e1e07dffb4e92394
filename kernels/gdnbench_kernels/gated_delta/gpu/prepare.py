"""What a chunk needs before its state is known: gates, row factors, the attention P and the inverse T."""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.gated_delta.gpu import gates
from gdnbench_kernels.gated_delta.gpu.configurations import configuration
from gdnbench_kernels.gated_delta.gpu.layout import CHUNK, Layout, locate_chunk, strides
from gdnbench_kernels.launching import launch

FULL = 528  # programs, four for each of the 132 multiprocessors of a Hopper: heads are taken together beyond that


def run(
    layout: Layout,
    *,
    q: Tensor,
    k: Tensor,
    g: Tensor,
    beta: Tensor,
    scale: float,
    attention: Tensor,
    rows: Tensor,
    inverse: Tensor | None = None,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    gate_scale: float = 1.0,
    beta_range: float | None = None,
    normalize: bool = False,
) -> None:
    """Fill ``attention``, ``rows`` and ``inverse`` (see the package) from raw or ready q, k, g and beta.

    Without ``inverse`` there is no delta rule (`ssd`), hence no recall. What is left to do for a value head is then
    little beside q k^T, so that a program takes several heads of one group.
    """
    together = 1 if inverse is not None else layout.heads_together(FULL)
    chosen: dict[str, Any] = configuration("prepare", q.device, layout)
    launch(
        prepare_kernel,
        (layout.chunks, layout.value_heads // together),
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
        **layout.kernel_arguments(),
        chunk_sequence=layout.chunk_sequence,
        scale=float(scale),
        gate_scale=float(gate_scale),
        beta_range=beta_range,
        C=CHUNK,
        K=layout.key_dim,
        R=rows.shape[2],
        TOGETHER=together,
        NORMALIZE=normalize,
        **chosen,
    )


@triton.jit(do_not_specialize=["T", "scale", "gate_scale"])
def prepare_kernel(
    q, k, g, beta, A_log, dt_bias, inverse, attention, rows,
    q_sb, q_st, q_sh, k_sb, k_st, k_sh, g_sb, g_st, g_sh, beta_sb, beta_st, beta_sh,
    T, H, HV, cu_seqlens, chunk_starts, chunk_sequence, scale, gate_scale, beta_range,
    C: tl.constexpr, K: tl.constexpr, BK: tl.constexpr, R: tl.constexpr,
    TOGETHER: tl.constexpr, NORMALIZE: tl.constexpr,
):  # fmt: skip
    """Program (slot, value heads of one key head): one chunk. All [C, C] tiles live in registers."""
    slot = tl.program_id(0)
    first_head = tl.program_id(1) * TOGETHER
    batch, first, count = locate_chunk(slot, T, cu_seqlens, chunk_starts, chunk_sequence, C)
    if count <= 0:
        return
    batch = batch.to(tl.int64)
    first = first.to(tl.int64)
    key_head = first_head // (HV // H)
    t = tl.arange(0, C)
    here = t < count

    g += batch * g_sb + first * g_st
    beta += batch * beta_sb + first * beta_st
    raw = (g, beta, A_log, dt_bias, g_st, g_sh, beta_st, beta_sh, gate_scale, beta_range)
    if TOGETHER == 1:  # beside the products
        b, decay, total = head_gates(raw, first_head, count, C)

    kk = tl.zeros([C, C], tl.float32)  # with an inverse only
    qk = tl.zeros([C, C], tl.float32)
    q_square = tl.zeros([C], tl.float32)
    k_square = tl.zeros([C], tl.float32)
    q += batch * q_sb + first * q_st + key_head * q_sh
    k += batch * k_sb + first * k_st + key_head * k_sh
    for start in range(0, K, BK):
        columns = start + tl.arange(0, BK)
        inside = here[:, None] & (columns < K)[None, :]
        q_tile = tl.load(q + t[:, None] * q_st + columns[None, :], mask=inside, other=0.0)
        k_tile = tl.load(k + t[:, None] * k_st + columns[None, :], mask=inside, other=0.0)
        if inverse is not None:
            kk = tl.dot(k_tile, tl.trans(k_tile), kk, input_precision="ieee")
        qk = tl.dot(q_tile, tl.trans(k_tile), qk, input_precision="ieee")
        if NORMALIZE:
            q_square += tl.sum(q_tile.to(tl.float32) * q_tile.to(tl.float32), 1)
        if R > 5:
            k_square += tl.sum(k_tile.to(tl.float32) * k_tile.to(tl.float32), 1)
    if NORMALIZE:
        rq = tl.rsqrt(q_square + gates.L2_EPS)
        rk = tl.rsqrt(k_square + gates.L2_EPS)
        kk = kk * rk[:, None] * rk[None, :]
        qk = qk * rq[:, None] * rk[None, :]

    for i in range(TOGETHER):
        head = first_head + i
        if TOGETHER > 1:
            b, decay, total = head_gates(raw, head, count, C)
        e = tl.exp2(decay)
        read = scale * e
        recall = b * e
        write = tl.where(here, tl.exp2(total - decay), 0.0)
        row = rows + (slot.to(tl.int64) * HV + head) * R * C + t
        if NORMALIZE:
            read = read * rq
            recall = recall * rk
            write = write * rk
            tl.store(row + 5 * C, rq)
            tl.store(row + 6 * C, rk)
        elif R == 6:
            tl.store(row + 5 * C, gates.log_growth(b, k_square))
        tl.store(row, b)
        if inverse is not None:
            tl.store(row + C, recall)
        tl.store(row + 2 * C, tl.where(here, read, 0.0))
        tl.store(row + 3 * C, write)
        tl.store(row + 4 * C, decay)

        # Masked before the exponential: above the diagonal the difference is positive and may overflow.
        D = tl.exp2(tl.where(t[:, None] >= t[None, :], decay[:, None] - decay[None, :], float("-inf")))
        tile = (slot.to(tl.int64) * HV + head) * C * C + t[:, None] * C + t[None, :]
        tl.store(attention + tile, (scale * qk * D).to(attention.dtype.element_ty))
        if inverse is not None:
            A = tl.where(t[:, None] > t[None, :], b[:, None] * kk * D, 0.0)
            tl.store(inverse + tile, unit_lower_inverse(A, C).to(inverse.dtype.element_ty))


@triton.jit
def head_gates(raw, head, count, C: tl.constexpr):
    """Return beta, cumulative log2 decay and its total of a head in the chunk; tokens beyond its end have neither."""
    g, beta, A_log, dt_bias, g_st, g_sh, beta_st, beta_sh, gate_scale, beta_range = raw
    t = tl.arange(0, C).to(tl.int64)
    here = t < count
    a = tl.load(g + t * g_st + head * g_sh, mask=here, other=0.0).to(tl.float32)
    b = tl.load(beta + t * beta_st + head * beta_sh, mask=here, other=0.0).to(tl.float32)
    if A_log is not None:
        a = gates.log_decay(a, tl.load(A_log + head), tl.load(dt_bias + head), gate_scale)
    b = gates.writing_strength(b, gate_scale, beta_range)
    a = tl.where(here, a, 0.0)
    return tl.where(here, b, 0.0), tl.cumsum(a, 0) * gates.LOG2E, tl.sum(a, 0) * gates.LOG2E


@triton.jit
def unit_lower_inverse(A, C: tl.constexpr):
    """Return ``(I + A)^-1`` for strictly lower triangular ``A [C, C]``.

    Forward substitution in float32 inside the 16 x 16 blocks of the diagonal, all four at once; then with ``Td`` those
    inverses and ``N = Td A_off``, which is block-nilpotent of order four, ``T = (I - N)(I + N^2) Td`` exactly. The
    products take float16 operands (as many bits as tf32, at twice its rate; |T_ij| <= beta for unit keys). A Neumann
    series inside the blocks would be cheaper and is wrong for correlated keys, whose powers grow before they vanish.
    """
    BLOCKS: tl.constexpr = C // 16
    t = tl.arange(0, C)
    u = tl.arange(0, BLOCKS)
    w = tl.arange(0, 16)
    on_diagonal = (u[:, None] == u[None, :])[:, None, :, None]
    blocks = -tl.sum(tl.where(on_diagonal, tl.reshape(A, [BLOCKS, 16, BLOCKS, 16]), 0.0), 2)
    Td = blocks
    for i in tl.static_range(2, 16):
        row = tl.sum(tl.where((w == i)[None, :, None], blocks, 0.0), 1)
        row = row + tl.sum(row[:, :, None] * Td, 1)
        Td = tl.where((w == i)[None, :, None], row[:, None, :], Td)
    Td = Td + tl.where(w[None, :, None] == w[None, None, :], 1.0, 0.0)
    Td = tl.reshape(tl.where(on_diagonal, Td[:, :, None, :], 0.0), [C, C]).to(tl.float16)
    off = tl.where((t[:, None] // 16) == (t[None, :] // 16), 0.0, A).to(tl.float16)
    N = tl.dot(Td, off)
    N_half = N.to(tl.float16)
    U = tl.where(t[:, None] == t[None, :], 1.0, 0.0) - N
    U = tl.dot(U.to(tl.float16), tl.dot(N_half, N_half).to(tl.float16), U)
    return tl.dot(U.to(tl.float16), Td)
