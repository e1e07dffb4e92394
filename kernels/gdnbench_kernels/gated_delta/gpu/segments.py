"""Cutting long sequences of few heads into pieces that run side by side, and chaining the pieces' states."""

import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.gated_delta.gpu.configurations import configuration
from gdnbench_kernels.gated_delta.gpu.layout import Layout
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
    programs = layout.sequences * layout.value_heads * triton.cdiv(layout.value_dim, VALUE_TILE)
    return max(min(FULL // programs, layout.chunks_per_sequence // SHORTEST, MOST), 1)


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
        (layout.sequences, layout.value_heads, triton.cdiv(layout.value_dim, chosen["VB"])),
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
