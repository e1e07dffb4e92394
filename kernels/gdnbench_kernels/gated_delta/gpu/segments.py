"""Cutting long sequences of few heads into pieces that run side by side, and chaining the pieces' states."""

import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.gated_delta.gpu.configurations import configuration
from gdnbench_kernels.gated_delta.gpu.layout import CHUNK, Layout, cdiv, locate_piece
from gdnbench_kernels.launching import launch

WIDEST_KEYS = 128  # a piece's transition matrix [K, K] must fit in one program

# A GPU is full with about this many programs of `scan` or `reverse`; a piece shorter than this many chunks costs more
# than it saves, since the pieces' transitions are work of their own.
FULL = 128
VALUE_TILE = 128
SHORTEST = 16
MOST = 32


def pieces_per_sequence(layout: Layout) -> int:
    """Return into how many pieces to cut each sequence: 1 where the heads alone fill the GPU."""
    if layout.key_dim > WIDEST_KEYS:
        return 1
    programs = layout.sequences * layout.value_heads * cdiv(layout.value_dim, VALUE_TILE)
    return max(min(FULL // programs, layout.chunks_per_sequence // SHORTEST, MOST), 1)


# What is left of a state after its transitions have shrunk it by 2^-24 is below the rounding of float32.
FORGOTTEN = tl.constexpr(-24.0)
MARGIN = tl.constexpr(2.0)
LOOKBACK = tl.constexpr(64)


def reach(layout: Layout, segments: int, *, rows: Tensor, lengths: Tensor) -> None:
    """Find how many chunks of a piece reach its end, and its start: what decay leaves nothing of can be skipped.

    Args:
        layout: sizes.
        segments: pieces of a sequence.
        rows: as the package describes, with `layout.GROWTH_ROWS` where keys are given.
        lengths: int32 ``[2, pieces, HV]``, written: the last chunks of a piece that its end state depends on, and the
            first that the gradient at its start depends on. All of its chunks where it does not forget.
    """
    launch(
        reach_kernel,
        (layout.sequences * segments, layout.value_heads, 2),
        rows=rows,
        lengths=lengths,
        **layout.kernel_arguments(),
        segments=segments,
        C=CHUNK,
        R=rows.shape[2],
        num_warps=4,
    )


@triton.jit(do_not_specialize=["T", "segments"])
def reach_kernel(
    rows, lengths, T, H, HV, cu_seqlens, chunk_starts, segments, C: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """Program (piece, value head, end or start).

    A token's transition ``e^g (I - beta k k^T)`` has the norm ``e^g max(1, |1 - beta k^2|)``: decay alone finds the
    chunks, then what keys longer than one (or than 2 / beta) let grow in those is added, and must not undo it.
    """
    piece = tl.program_id(0)
    head = tl.program_id(1)
    from_start = tl.program_id(2)
    batch, first, end, slot, chunk, chunk_end = locate_piece(piece, segments, T, cu_seqlens, chunk_starts, C)
    chunks = chunk_end - chunk
    i = tl.arange(0, LOOKBACK)
    n = tl.where(from_start == 1, chunk + i, chunk_end - 1 - i)
    totals = rows + ((slot + n).to(tl.int64) * HV + head) * R * C + 5 * C - 1
    left = tl.cumsum(tl.load(totals, mask=i < chunks, other=0.0), 0)
    length = tl.sum(tl.where((left > FORGOTTEN - MARGIN) & (i < chunks), 1, 0), 0) + 1
    if length > tl.minimum(chunks, LOOKBACK):
        length = chunks
    elif R == 6:  # keys as given: normalized ones cannot grow a state, since beta is at most 2
        t = tl.arange(0, C)
        growth = rows + ((slot + n).to(tl.int64) * HV + head)[:, None] * R * C + 5 * C + t[None, :]
        grown = tl.sum(tl.load(growth, mask=(i < length)[:, None], other=0.0))
        if tl.sum(tl.where(i == length - 1, left, 0.0), 0) + grown > FORGOTTEN:
            length = chunks
    at = (from_start * tl.num_programs(0) + piece) * HV + head
    tl.store(lengths + at, length)


def chain(
    layout: Layout,
    segments: int,
    *,
    transition: Tensor,
    ends: Tensor,
    carried: Tensor,
    boundary: Tensor | None,
    backward: bool = False,
) -> None:
    """Turn what each piece does from a zero state into the state that each piece starts from.

    Forward: ``carried_0 = boundary``, ``carried_{j+1} = M_j carried_j + ends_j``. Backward, for the gradients of the
    states at the pieces' ends: the last is ``boundary``, ``carried_{j-1} = M_j^T carried_j + ends_j``.

    Args:
        layout: sizes.
        segments: pieces of a sequence.
        transition: M, float32 ``[pieces, HV, K, K]``.
        ends: float32 ``[pieces, HV, K, V]``.
        carried: float32 ``[pieces, HV, K, V]``, written.
        boundary: float32 ``[sequences, HV, K, V]``; None: zero.
        backward: which of the two.
    """
    chosen = configuration("chain", ends.device, layout)
    launch(
        chain_kernel,
        (layout.sequences, layout.value_heads, cdiv(layout.value_dim, chosen["VB"])),
        transition=transition,
        ends=ends,
        carried=carried,
        boundary=boundary,
        segments=segments,
        HV=layout.value_heads,
        K=layout.key_dim,
        KP=triton.next_power_of_2(layout.key_dim),
        V=layout.value_dim,
        BACKWARD=backward,
        **chosen,
    )


@triton.jit(do_not_specialize=["segments"])
def chain_kernel(
    transition, ends, carried, boundary, segments, HV,
    K: tl.constexpr, KP: tl.constexpr, V: tl.constexpr, VB: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """Program (sequence, value head, tile of V): ``S [KP, VB]`` in registers, ``M [KP, KP]`` by piece from memory."""
    sequence = tl.program_id(0)
    head = tl.program_id(1)
    kc = tl.arange(0, KP)
    vc = tl.program_id(2) * VB + tl.arange(0, VB)
    inside = (kc < K)[:, None] & (vc < V)[None, :]
    square = (kc < K)[:, None] & (kc < K)[None, :]
    tile = kc[:, None] * V + vc[None, :]
    if boundary is not None:
        S = tl.load(boundary + (sequence.to(tl.int64) * HV + head) * K * V + tile, mask=inside, other=0.0)
    else:
        S = tl.zeros([KP, VB], tl.float32)
    for i in tl.range(0, segments, num_stages=1):
        j = (segments - 1 - i) if BACKWARD else i
        piece = (sequence.to(tl.int64) * segments + j) * HV + head
        tl.store(carried + piece * K * V + tile, S, mask=inside)
        if i + 1 < segments:
            own = tl.load(ends + piece * K * V + tile, mask=inside, other=0.0)
            # M_ij, or its transpose for the gradients.
            order = kc[None, :] * K + kc[:, None] if BACKWARD else kc[:, None] * K + kc[None, :]
            M = tl.load(transition + piece * K * K + order, mask=square, other=0.0)
            S = tl.dot(M, S, own, input_precision="tf32x3")
