"""The walk over the chunks of a sequence, backward: the gradients of the states and of X."""

import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.gated_delta.gpu.configurations import configuration
from gdnbench_kernels.gated_delta.gpu.layout import CHUNK, Layout, cdiv, locate_piece, strides
from gdnbench_kernels.launching import launch


def run(
    layout: Layout,
    segments: int,
    *,
    q: Tensor,
    k: Tensor,
    do: Tensor,
    attention: Tensor,
    rows: Tensor,
    inverse: Tensor | None = None,
    dstates: Tensor | None = None,
    dx: Tensor | None = None,
    final_grad: Tensor | None = None,
    initial_grad: Tensor | None = None,
    lengths: Tensor | None = None,
) -> None:
    """Walk each of ``sequences * segments`` pieces from ``final_grad``, the gradient of its end state (None: zero).

    Args:
        layout: sizes.
        segments: pieces of a sequence, which run side by side.
        q, k, attention, rows: as the package describes.
        inverse: as the package describes; None: there is no delta rule (`ssd`), so dX is dDelta.
        do: gradient of the output ``[B, T, HV, V]``.
        dstates, dx: together; the gradient of the state at each chunk's end ``[N, HV, K, V]``, and of X
            ``[B, T, HV, V]``.
        final_grad, initial_grad: float32 ``[pieces, HV, K, V]``; the latter is written.
        lengths: int32 ``[pieces, HV]``, walk only so many of the first chunks (`segments.reach`).
    """
    chosen = configuration("reverse", k.device, layout, pieces=layout.sequences * segments)
    launch(
        reverse_kernel,
        (layout.sequences * segments, layout.value_heads, cdiv(layout.value_dim, chosen["VB"])),
        q=q,
        k=k,
        do=do,
        inverse=inverse,
        attention=attention,
        rows=rows,
        dstates=dstates,
        dx=dx,
        final_grad=final_grad,
        initial_grad=initial_grad,
        lengths=lengths,
        **strides(q=q, k=k, do=do, dx=dx),
        **layout.kernel_arguments(),
        segments=segments,
        C=CHUNK,
        K=layout.key_dim,
        KP=triton.next_power_of_2(layout.key_dim),
        V=layout.value_dim,
        R=rows.shape[2],
        **chosen,
    )


@triton.jit(do_not_specialize=["T", "segments"])
def reverse_kernel(
    q, k, do, inverse, attention, rows, dstates, dx, final_grad, initial_grad, lengths,
    q_sb, q_st, q_sh, k_sb, k_st, k_sh, do_sb, do_st, do_sh, dx_sb, dx_st, dx_sh,
    T, H, HV, cu_seqlens, chunk_starts, segments,
    C: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, V: tl.constexpr, VB: tl.constexpr, R: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """Program (piece, value head, tile of V): ``dS [KP, VB]`` stays in registers, float32, over all chunks.

    As in `scan_kernel`, computed tiles are right operands only.
    """
    piece = tl.program_id(0)
    head = tl.program_id(1)
    DT: tl.constexpr = k.dtype.element_ty
    batch, first, end, slot, chunk, chunk_end = locate_piece(piece, segments, T, cu_seqlens, chunk_starts, C)
    if lengths is not None:
        chunk_end = chunk + tl.load(lengths + piece * HV + head)
    batch = batch.to(tl.int64)
    key_head = head // (HV // H)
    t = tl.arange(0, C)
    kc = tl.arange(0, KP)
    vc = tl.program_id(2) * VB + tl.arange(0, VB)
    in_k = kc < K
    in_v = (vc < V)[None, :]
    q += batch * q_sb + key_head * q_sh
    k += batch * k_sb + key_head * k_sh
    do += batch * do_sb + head * do_sh
    place = (piece.to(tl.int64) * HV + head) * K * V + kc[:, None] * V + vc[None, :]

    if final_grad is not None:
        dS = tl.load(final_grad + place, mask=in_k[:, None] & in_v, other=0.0)
    else:
        dS = tl.zeros([KP, VB], tl.float32)

    for i in tl.range(chunk, chunk_end, num_stages=STAGES):
        n = chunk + chunk_end - 1 - i
        token = first.to(tl.int64) + n * C
        here = (token + t < end)[:, None]
        block = (slot + n).to(tl.int64) * HV + head
        q_tile = tl.load(q + (token + t)[:, None] * q_st + kc[None, :], mask=here & in_k[None, :], other=0.0)
        k_tile = tl.load(k + (token + t)[:, None] * k_st + kc[None, :], mask=here & in_k[None, :], other=0.0)
        do_tile = tl.load(do + (token + t)[:, None] * do_st + vc[None, :], mask=here & in_v, other=0.0)
        if inverse is not None:
            T_tile = tl.load(inverse + block * C * C + t[:, None] * C + t[None, :])
        P_tile = tl.load(attention + block * C * C + t[:, None] * C + t[None, :])
        row = rows + block * R * C
        if inverse is not None:
            recall = tl.load(row + C + t)
        read = tl.load(row + 2 * C + t)
        write = tl.load(row + 3 * C + t)
        total = tl.exp2(tl.load(row + 5 * C - 1))

        dS_half = dS.to(DT)
        if dstates is not None:
            at = dstates + block * K * V + kc[:, None] * V + vc[None, :]
            tl.store(at, dS_half, mask=in_k[:, None] & in_v)
        dDelta = tl.dot(k_tile, dS_half, input_precision="ieee") * write[:, None]
        dDelta = tl.dot(tl.trans(P_tile), do_tile, dDelta, input_precision="ieee")
        if inverse is not None:
            dX = tl.dot(tl.trans(T_tile), dDelta.to(DT), input_precision="ieee")
        else:
            dX = dDelta
        if dx is not None:
            at = dx + batch * dx_sb + (token + t)[:, None] * dx_st + head * dx_sh + vc[None, :]
            tl.store(at, dX.to(dx.dtype.element_ty), mask=here & in_v)
        dS = dS * total
        dS = tl.dot(tl.trans(q_tile), (read[:, None] * do_tile.to(tl.float32)).to(DT), dS, input_precision="ieee")
        if inverse is not None:
            dS = tl.dot(tl.trans(k_tile), (-recall[:, None] * dX).to(DT), dS, input_precision="ieee")

    if initial_grad is not None:
        tl.store(initial_grad + place, dS, mask=in_k[:, None] & in_v)
