"""`scan` for sm_90 in Gluon: states stay in registers, and every product takes its left operand from there.

What the plain version computes, transposed, so that a token is a column and each accumulator, rounded, is the left
operand of the next product as it lies in a warpgroup's registers:

    sk      = S^T k^T                          X^T  = beta * v^T - recall * sk
    Delta^T = X^T T^T
    O^T     = read * (S^T q^T) + Delta^T P^T
    S'^T    = total * S^T + (write * Delta)^T k

Program (tile of V, value head, piece) walks the piece's chunks with ``64 * WARPGROUPS`` rows of S^T:

    warps                 work                             registers
    loader (1 warp)       TMA loads of the chunks to come  -
    state warpgroup w     its own 64 rows of everything    S^T as slices [64, SLICE] over K; sk, X^T, Delta^T, O^T [64, 64]

    shared memory         shape                            filled by     read by
    k_ring, q_ring        [STAGES * SLICES, 64, SLICE]     loader        products, as right operand
    v_ring                [STAGES * WARPGROUPS, 64, 64]    loader        warpgroup w, its own 64 columns, transposed
    t_ring, p_ring        [STAGES, 64, 64]                 loader        products, as right operand
    row_ring              [STAGES, 256] float32            loader        all: beta, recall, read, write by token
    token_tile            [WARPGROUPS, 64, 64]             warpgroup w   TMA store of O or Delta
    state_tile            [WARPGROUPS * SLICES, SLICE, 64] warpgroup w   TMA store of S at the chunk's start
    full, empty           mbarriers [STAGES]               a stage's loads have arrived; all warpgroups are done with it

The warpgroups share nothing but the ring: they drift apart, and the arithmetic of one fills the gaps between products
of the other. K is cut into slices because the sides of a tile are powers of two; what lies beyond K, V or T loads as
zero and is not stored. Only behind the end of a packed sequence do tokens of another follow: their factors are zero,
and the stores of such a chunk are masked.
"""

from dataclasses import dataclass

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

from gdnbench_kernels.gated_delta.gpu.layout import CHUNK, ROWS, Layout, locate_piece
from gdnbench_kernels.launching import launch

FACTORS = 4  # beta, recall, read and write lead `ROWS`: one load of 256 numbers
DECAY = ROWS.index("decay")

# Of one SM, and of one program on it.
SHARED_OF_SM = 233_472
SHARED_RESERVED = 1_024
SHARED_LARGEST = SHARED_OF_SM - SHARED_RESERVED
REGISTERS_OF_SM = 65_536

LOADER_REGISTERS = gl.constexpr(24)


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """How a program is built, in the words of the map above.

    Attributes:
        slice_width, slices: of K.
        warpgroups: with state, 64 columns of V each.
        stages: of the ring.
        resident: programs that share an SM and its registers.
        overlap: compute X while the product with q still runs.
    """

    slice_width: int
    slices: int
    warpgroups: int
    stages: int
    resident: int
    overlap: bool = True

    @property
    def registers(self) -> int:
        """Registers of a thread at launch, when all warps have the same; the loader then gives up most of its own."""
        threads = 128 * (self.warpgroups + 1)
        return min(REGISTERS_OF_SM // (self.resident * threads) // 8 * 8, 240)

    @property
    def worker_registers(self) -> int:
        """Registers of a thread of a state warpgroup."""
        spare = self.registers * (self.warpgroups + 1) - LOADER_REGISTERS.value
        return min(spare // self.warpgroups // 8 * 8, 240)


def configure(layout: Layout, *, with_output: bool, with_states: bool, pieces: int) -> Configuration:
    """Return the fewest tiles of V that keep two stages in shared memory, and as many programs to an SM as that allows.

    Slices of K are 64 wide unless 32 wide ones hold fewer zeros.
    """
    slice_width = 32 if triton.cdiv(layout.key_dim, 32) % 2 else 64
    slices = triton.cdiv(layout.key_dim, slice_width)
    warpgroups = 1 if layout.value_dim <= 64 else 2
    return Configuration(slice_width=slice_width, slices=slices, warpgroups=warpgroups, stages=2, resident=1)


def shared_bytes(chosen: Configuration, *, with_output: bool, with_states: bool) -> int:
    """Return the shared memory of a program: the ring, and the tiles on their way out."""
    keys = CHUNK * chosen.slice_width * chosen.slices * 2
    values = CHUNK * 64 * chosen.warpgroups * 2
    square = CHUNK * CHUNK * 2
    stage = (1 + with_output) * (keys + square) + values + FACTORS * CHUNK * 4
    out = values * (with_output or with_states) + keys * chosen.warpgroups * with_states
    return chosen.stages * stage + out + 1024


def supports(*, q: Tensor | None, k: Tensor, v: Tensor, output: Tensor | None = None) -> bool:
    """Return whether these can be loaded by TMA: 16-bit types, bases and strides in multiples of 16 bytes."""
    tensors = [x for x in (q, k, v, output) if x is not None]
    return all(
        x.dtype in (torch.bfloat16, torch.float16)
        and x.dtype == k.dtype
        and x.stride(-1) == 1
        and x.data_ptr() % 16 == 0
        and all(stride % 8 == 0 for stride in x.stride()[:-1])
        for x in tensors
    )


def run(
    layout: Layout,
    segments: int,
    *,
    k: Tensor,
    v: Tensor,
    inverse: Tensor,
    rows: Tensor,
    initial: Tensor | None = None,
    q: Tensor | None = None,
    attention: Tensor | None = None,
    output: Tensor | None = None,
    states: Tensor | None = None,
    delta: Tensor | None = None,
    final: Tensor | None = None,
    transition: Tensor | None = None,
    chosen: Configuration | None = None,
) -> None:
    """Walk each of ``sequences * segments`` pieces from its ``initial`` state: `gated_delta.gpu.scan.run` for sm_90.

    Args:
        layout, segments, k, v, inverse, rows, initial, q, attention, output, states, delta, final, transition: as
            there; ``q, k, v, output, delta`` must pass `supports`. Not both ``output`` and ``states``.
        chosen: None takes `configure`'s.
    """
    with_output, with_states = output is not None, states is not None
    pieces = layout.sequences * segments
    if chosen is None:
        chosen = configure(layout, with_output=with_output, with_states=with_states, pieces=pieces)
    width = 64 * chosen.warpgroups
    value_tiles = triton.cdiv(layout.value_dim, width)
    tiles = value_tiles + (triton.cdiv(layout.key_dim, width) if transition is not None else 0)
    tokens = output if with_output else delta
    value_tile = [1, CHUNK, 1, 64]
    key_tile = [1, CHUNK, 1, chosen.slice_width]
    flat_states = states.view(-1, layout.key_dim, layout.value_dim) if with_states else None
    launch(
        scan_kernel,
        (tiles * layout.value_heads * pieces,),
        k=_descriptor(k, key_tile),
        q=_descriptor(q, key_tile),
        v=_descriptor(v, value_tile),
        inverse=_descriptor(inverse.view(-1, CHUNK), [CHUNK, CHUNK]),
        attention=_descriptor(None if attention is None else attention.view(-1, CHUNK), [CHUNK, CHUNK]),
        factors=_descriptor(rows.view(-1), [FACTORS * CHUNK]),
        tokens=_descriptor(tokens, value_tile),
        states=_descriptor(flat_states, [1, chosen.slice_width, 64]),
        ragged=tokens if layout.cu_seqlens is not None else None,
        decay=rows,
        initial=initial,
        final=final,
        transition=transition,
        **layout.kernel_arguments(),
        segments=segments,
        tiles=tiles,
        C=CHUNK,
        K=layout.key_dim,
        V=layout.value_dim,
        R=rows.shape[2],
        SLICE=chosen.slice_width,
        SLICES=chosen.slices,
        WARPGROUPS=chosen.warpgroups,
        STAGES=chosen.stages,
        OVERLAP=chosen.overlap,
        WORKER_REGISTERS=chosen.worker_registers,
        num_warps=4,
        maxnreg=chosen.registers,
    )


def _descriptor(x: Tensor | None, tile: list[int]) -> TensorDescriptor | None:
    """Return the TMA descriptor of ``x`` for tiles that lie in shared memory as products want them."""
    if x is None:
        return None
    element = gl.float32 if x.dtype == torch.float32 else gl.bfloat16
    return TensorDescriptor.from_tensor(x, tile, gl.NVMMASharedLayout.get_default_for(tile, element))


@gluon.jit(do_not_specialize=["T", "segments", "tiles"])
def scan_kernel(
    k, q, v, inverse, attention, factors, tokens, states, ragged, decay, initial, final, transition,
    T, H, HV, cu_seqlens, chunk_starts, segments, tiles,
    C: gl.constexpr, K: gl.constexpr, V: gl.constexpr, R: gl.constexpr, SLICE: gl.constexpr, SLICES: gl.constexpr,
    WARPGROUPS: gl.constexpr, STAGES: gl.constexpr, OVERLAP: gl.constexpr, WORKER_REGISTERS: gl.constexpr,
):  # fmt: skip
    """One program: tile of V, then value head, then piece in its number; `_load` and `_walk` are its warps."""
    DT: gl.constexpr = k.dtype
    k_ring = gl.allocate_shared_memory(DT, [STAGES * SLICES, 1, C, 1, SLICE], k.layout)
    v_ring = gl.allocate_shared_memory(DT, [STAGES * WARPGROUPS, 1, C, 1, 64], v.layout)
    t_ring = gl.allocate_shared_memory(DT, [STAGES, C, C], inverse.layout)
    row_ring = gl.allocate_shared_memory(gl.float32, [STAGES, factors.block_shape[0]], factors.layout)
    q_ring = None
    p_ring = None
    token_tile = None
    state_tile = None
    if q is not None:
        q_ring = gl.allocate_shared_memory(DT, [STAGES * SLICES, 1, C, 1, SLICE], q.layout)
        p_ring = gl.allocate_shared_memory(DT, [STAGES, C, C], attention.layout)
    if tokens is not None:
        token_tile = gl.allocate_shared_memory(DT, [WARPGROUPS, 1, C, 1, 64], tokens.layout)
    if states is not None:
        state_tile = gl.allocate_shared_memory(DT, [WARPGROUPS * SLICES, 1, SLICE, 64], states.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=WARPGROUPS)
    fence_async_shared()

    tile = gl.program_id(0) % tiles
    head = gl.program_id(0) // tiles % HV
    piece = gl.program_id(0) // tiles // HV
    batch, first, end, slot, chunk, chunk_end = locate_piece(piece, segments, T, cu_seqlens, chunk_starts, C)
    column = tile * WARPGROUPS * 64
    here = (batch, first + chunk * C, end, (slot + chunk) * HV + head, chunk_end - chunk, head, column)
    rings = (k_ring, q_ring, v_ring, t_ring, p_ring, row_ring, full, empty)

    carried = (rings, token_tile, state_tile, tokens, states, ragged, decay, initial, final, transition)
    sizes = (piece * HV + head, HV)
    loads = (_load, (rings, k, q, v, inverse, attention, factors, here, head // (HV // H), HV, C, R, SLICE, SLICES, WARPGROUPS, STAGES))
    if WARPGROUPS == 1:
        gl.warp_specialize(
            [(_walk, (0, carried, here, sizes, C, K, V, R, SLICE, SLICES, WARPGROUPS, STAGES, OVERLAP)), loads],
            [1], [LOADER_REGISTERS],
        )
    else:
        gl.warp_specialize(
            [(_walk, (0, carried, here, sizes, C, K, V, R, SLICE, SLICES, WARPGROUPS, STAGES, OVERLAP)),
             (_walk, (1, carried, here, sizes, C, K, V, R, SLICE, SLICES, WARPGROUPS, STAGES, OVERLAP)), loads],
            [4, 1], [WORKER_REGISTERS, LOADER_REGISTERS],
        )
