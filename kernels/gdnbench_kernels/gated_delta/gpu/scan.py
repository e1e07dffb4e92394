"""The walk over the chunks of a sequence, forward: outputs, or the states and Delta that the gradients want."""

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
    k: Tensor,
    v: Tensor,
    rows: Tensor,
    inverse: Tensor | None = None,
    initial: Tensor | None = None,
    q: Tensor | None = None,
    attention: Tensor | None = None,
    output: Tensor | None = None,
    states: Tensor | None = None,
    delta: Tensor | None = None,
    final: Tensor | None = None,
    transition: Tensor | None = None,
    lengths: Tensor | None = None,
) -> None:
    """Walk each of ``sequences * segments`` pieces from its ``initial`` state (None: zero).

    Args:
        layout: sizes.
        segments: pieces of a sequence, which run side by side.
        k, v, rows: as the package describes.
        inverse: as the package describes; None: there is no delta rule (`ssd`), so Delta is beta v.
        initial: float32 ``[pieces, HV, K, V]``.
        q, attention, output: together; ``output [B, T, HV, V]`` is written.
        states: the state at each chunk's start ``[N, HV, K, V]``, written.
        delta: ``Delta [B, T, HV, V]``, written; with ``states`` and ``inverse`` only.
        final: float32 ``[pieces, HV, K, V]``, the state at each piece's end.
        transition: float32 ``[pieces, HV, K, K]``, the matrix M of a piece: ``final = M initial + ...``.
        lengths: int32 ``[pieces, HV]``, walk only so many of the last chunks (`segments.reach`), from a zero state.
    """
    chosen = configuration("scan", k.device, layout, pieces=layout.sequences * segments)
    value_tiles = cdiv(layout.value_dim, chosen["VB"])
    tiles = value_tiles + (cdiv(layout.key_dim, chosen["VB"]) if transition is not None else 0)
    launch(
        scan_kernel,
        (layout.sequences * segments, layout.value_heads, tiles),
        q=q,
        k=k,
        v=v,
        inverse=inverse,
        attention=attention,
        rows=rows,
        initial=initial,
        output=output,
        states=states,
        delta=delta,
        final=final,
        transition=transition,
        lengths=lengths,
        **strides(q=q, k=k, v=v, output=output, delta=delta),
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
def scan_kernel(
    q, k, v, inverse, attention, rows, initial, output, states, delta, final, transition, lengths,
    q_sb, q_st, q_sh, k_sb, k_st, k_sh, v_sb, v_st, v_sh, output_sb, output_st, output_sh, delta_sb, delta_st, delta_sh,
    T, H, HV, cu_seqlens, chunk_starts, segments,
    C: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, V: tl.constexpr, VB: tl.constexpr, R: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """Program (piece, value head, tile of V): ``S [KP, VB]`` stays in registers, float32, over all chunks.

    Every tile that is computed (S, X, Delta) is the right operand of a product, which Triton stages in shared memory;
    every left operand is a tile as loaded. So no product takes a register operand (see `unsafe_products` in the
    tests). With ``transition``, the tiles beyond V carry columns of the identity through the same walk, without v.
    """
    piece = tl.program_id(0)
    head = tl.program_id(1)
    VALUE_TILES: tl.constexpr = (V + VB - 1) // VB
    DT: tl.constexpr = k.dtype.element_ty
    batch, first, end, slot, chunk, chunk_end = locate_piece(piece, segments, T, cu_seqlens, chunk_starts, C)
    identity = 1.0
    if lengths is not None:
        skipped = chunk_end - chunk - tl.load(lengths + piece * HV + head)
        chunk += skipped
        identity = tl.where(skipped > 0, 0.0, 1.0)
    batch = batch.to(tl.int64)
    key_head = head // (HV // H)
    t = tl.arange(0, C)
    kc = tl.arange(0, KP)
    vc = tl.program_id(2) * VB + tl.arange(0, VB)
    in_k = (kc < K)[:, None]
    in_v = (vc < V)[None, :]
    k += batch * k_sb + key_head * k_sh
    v += batch * v_sb + head * v_sh
    place = (piece.to(tl.int64) * HV + head) * K * V + kc[:, None] * V + vc[None, :]

    if initial is not None:
        S = tl.load(initial + place, mask=in_k & in_v, other=0.0)
    else:
        S = tl.zeros([KP, VB], tl.float32)
    if transition is not None:
        S += tl.where((kc[:, None] == vc[None, :] - VALUE_TILES * VB) & in_k, identity, 0.0)

    for n in tl.range(chunk, chunk_end, num_stages=STAGES):
        token = first.to(tl.int64) + n * C
        here = (token + t < end)[:, None]
        block = (slot + n).to(tl.int64) * HV + head
        k_tile = tl.load(k + (token + t)[:, None] * k_st + kc[None, :], mask=here & (kc < K)[None, :], other=0.0)
        v_tile = tl.load(v + (token + t)[:, None] * v_st + vc[None, :], mask=here & in_v, other=0.0)
        if inverse is not None:
            T_tile = tl.load(inverse + block * C * C + t[:, None] * C + t[None, :])
        row = rows + block * R * C
        beta = tl.load(row + t)
        if inverse is not None:
            recall = tl.load(row + C + t)
        write = tl.load(row + 3 * C + t)
        total = tl.exp2(tl.load(row + 5 * C - 1))

        S_half = S.to(DT)
        if states is not None:
            tl.store(states + block * K * V + kc[:, None] * V + vc[None, :], S_half, mask=in_k & in_v)
        X = beta[:, None] * v_tile.to(tl.float32)
        if inverse is not None:
            X -= recall[:, None] * tl.dot(k_tile, S_half, input_precision="ieee")
            D = tl.dot(T_tile, X.to(DT), input_precision="ieee")
        else:
            D = X
        if delta is not None:
            at = delta + batch * delta_sb + (token + t)[:, None] * delta_st + head * delta_sh + vc[None, :]
            tl.store(at, D.to(DT), mask=here & in_v)
        if output is not None:
            at = q + batch * q_sb + (token + t)[:, None] * q_st + key_head * q_sh + kc[None, :]
            q_tile = tl.load(at, mask=here & (kc < K)[None, :], other=0.0)
            P_tile = tl.load(attention + block * C * C + t[:, None] * C + t[None, :])
            read = tl.load(row + 2 * C + t)
            O = tl.dot(q_tile, S_half, input_precision="ieee") * read[:, None]
            O = tl.dot(P_tile, D.to(DT), O, input_precision="ieee")
            at = output + batch * output_sb + (token + t)[:, None] * output_st + head * output_sh + vc[None, :]
            tl.store(at, O.to(output.dtype.element_ty), mask=here & in_v)
        S = tl.dot(tl.trans(k_tile), (write[:, None] * D).to(DT), S * total, input_precision="ieee")

    if final is not None:
        tl.store(final + place, S, mask=in_k & in_v)
    if transition is not None:
        mc = vc - VALUE_TILES * VB
        at = transition + (piece.to(tl.int64) * HV + head) * K * K + kc[:, None] * K + mc[None, :]
        tl.store(at, S, mask=in_k & ((mc >= 0) & (mc < K))[None, :])
