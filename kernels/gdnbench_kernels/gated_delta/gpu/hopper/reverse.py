"""`reverse` for sm_90 in Gluon: the gradients of the states stay in registers and are multiplied from there.

What the plain version computes, transposed, so that a token is a column and each accumulator is the left operand of
the next product as it lies in the registers of a warpgroup. For each chunk, from the last to the first:

    dDelta^T = write * (dS^T k^T) + dO^T P
    dX^T     = dDelta^T T
    dS^T    <- total * dS^T + (read * dO)^T q - (recall * dX)^T k

Without an inverse (`ssd`) dX is dDelta, and nothing is recalled.

Program (tile of V, value head, piece; the tile runs fastest, so that programs side by side share q, k, T and P in L2):
walks the piece's chunks with ``64 * WARPGROUPS`` rows of ``dS^T``, which are those of one head or, with ``HEADS``, 64
of each of as many neighbours that share q and k.

    warps                 work                                   registers (float32 unless it says half)
    state warpgroup w     its own 64 rows of all above           dS^T [64, K] as slices [64, SLICE]; dDelta^T and
                                                                 dX^T [64, 64]; half, as left operands: dS^T,
                                                                 (read * dO)^T, dDelta^T, (recall * dX)^T
    loader (1 warp)       TMA loads of the next chunks           -

    shared memory         shape                                  filled by       read by
    k_ring, q_ring        [STAGES * SLICES, 64, SLICE]           loader          products, as right operand
    t_ring, p_ring        [STAGES * HEADS, 64, 64]               loader          products, as right operand
    do_ring               [STAGES * WARPGROUPS, 64, 64]          loader          warpgroup w: product with P, read * dO
      and then the same                                          warpgroup w     TMA store of dX
    row_ring              [STAGES * HEADS, 4 * 64] float32       loader          recall, read, write, decay by token
    state_tile            [WARPGROUPS * OUT_TILES, SLICE, 64]    warpgroup w     TMA store of dS, before its update
    full, empty           one mbarrier a stage: the loads have arrived; every warpgroup has done with them

The warpgroups share only the ring: they drift apart, and one's arithmetic fills the gaps of the other's products.
K is cut into slices because a tile's side must be a power of two; what lies beyond K, V or T loads as zero and is not
stored. At the end of a packed sequence the next one's rows follow: they meet factors and rows of P that are zero, and
stores there are masked.
"""

import dataclasses
import functools

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

from gdnbench_kernels.gated_delta.gpu.hopper.warpgroups import (
    LOADER_REGISTERS,
    SHARED_BYTES_OF_SM,
    SHARED_RESERVED,
    SMS,
    allocate,
    descriptor,
    pairs,
    registers,
    store_tokens,
)
from gdnbench_kernels.gated_delta.gpu.layout import CHUNK, ROWS, Layout, cdiv, locate_piece
from gdnbench_kernels.launching import launch

FACTORS = 4  # recall, read, write, decay: neighbours in `layout.ROWS`
FIRST_FACTOR = gl.constexpr(ROWS.index("recall"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration:
    """How a program is built, in the words of the map above.

    Attributes:
        slice_width, slices: of K.
        warpgroups: with state, 64 columns of V each.
        heads: that the warpgroups belong to: one each, or all to one.
        inverse: whether there is one.
        stages: of the ring.
        out_tiles: of dS on their way out, a warpgroup; with fewer than ``slices``, one waits for another to have left.
        held: slices of dS that are left operands at the same time; fewer take fewer registers.
        chained: add dO^T P to dS^T k^T in place, when that is there; else both run at once, in more registers.
        resident: programs that share an SM and its registers.
    """

    slice_width: int
    slices: int
    warpgroups: int
    stages: int
    out_tiles: int
    held: int
    chained: bool
    resident: int
    heads: int = 1
    inverse: bool = True

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a program, barriers and alignment included."""
        keys = CHUNK * self.slice_width * self.slices * 2
        square = CHUNK * CHUNK * 2
        by_head = (1 + self.inverse) * square + FACTORS * CHUNK * 4
        stage = 2 * keys + self.warpgroups * square + self.heads * by_head
        return self.stages * stage + self.warpgroups * self.out_tiles * 64 * self.slice_width * 2 + 512


@functools.cache
def configure(key_dim: int, value_dim: int, programs: int, *, inverse: bool = True, group: int = 1) -> Configuration:
    """Return how to build the kernel for a shape and ``programs``, the number of pieces times value heads.

    Two warpgroups of one program share the loads of q, k, T and P, which pays (as measured) where there are at least
    two such programs for each SM; where V has no second half, `pairs` of heads may share. Two stages fit everywhere.
    Narrow keys leave room for several programs on an SM, which hide each other's waits.
    """
    slice_width = 32 if key_dim <= 32 or 64 < key_dim <= 96 else 64
    slices = cdiv(key_dim, slice_width)
    columns = cdiv(value_dim, 64)
    heads = 2 if columns == 1 and pairs(key_dim, programs, inverse=inverse, group=group) else 1
    warpgroups = heads if columns == 1 or programs * cdiv(columns, 2) < 2 * SMS else 2
    roomy = slices * slice_width <= 128
    chosen = Configuration(
        slice_width=slice_width,
        slices=slices,
        warpgroups=warpgroups,
        stages=2,
        out_tiles=slices if key_dim <= 128 else 2,
        held=slices if roomy else 1,
        chained=not roomy or key_dim <= 32,
        resident=1,
        heads=heads,
        inverse=inverse,
    )
    resident = max(1, SHARED_BYTES_OF_SM // (chosen.shared_bytes + SHARED_RESERVED)) if warpgroups == 1 else 1
    return dataclasses.replace(chosen, resident=min(resident, 3 if key_dim <= 32 else 2))


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
    chosen: Configuration | None = None,
) -> None:
    """Walk each of ``sequences * segments`` pieces from its ``final_grad``: `gated_delta.gpu.reverse.run` for sm_90.

    Args:
        layout, segments, q, k, do, attention, rows, inverse, dstates, dx, final_grad, initial_grad: as there;
            ``q, k, do, dx`` are as `choice.movable` gives them.
        chosen: None takes `configure`'s.
    """
    programs = layout.sequences * segments * layout.value_heads
    if chosen is None:
        about = {"inverse": inverse is not None, "group": layout.value_heads // layout.heads}
        chosen = configure(layout.key_dim, layout.value_dim, programs, **about)
    tiles = cdiv(layout.value_dim, 64 * chosen.warpgroups // chosen.heads)
    key_tile = [1, CHUNK, 1, chosen.slice_width]
    value_tile = [1, CHUNK, 1, 64]
    square = [CHUNK, CHUNK]
    at_launch, with_state = registers(chosen.warpgroups, chosen.resident)
    if dstates is not None:
        dstates = dstates.view(-1, layout.key_dim, layout.value_dim)
    launch(
        reverse_kernel,
        (tiles * programs // chosen.heads,),
        q=descriptor(q, key_tile),
        k=descriptor(k, key_tile),
        do=descriptor(do, value_tile),
        inverse=descriptor(None if inverse is None else inverse.view(-1, CHUNK), square),
        attention=descriptor(attention.view(-1, CHUNK), square),
        factors=descriptor(rows.view(-1), [FACTORS * CHUNK]),
        dstates=descriptor(dstates, [1, chosen.slice_width, 64]),
        dx=descriptor(dx, value_tile),
        ragged=dx if layout.cu_seqlens is not None else None,
        final_grad=final_grad,
        initial_grad=initial_grad,
        lengths=lengths,
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
        HEADS=chosen.heads,
        STAGES=chosen.stages,
        OUT_TILES=chosen.out_tiles,
        HELD=chosen.held,
        CHAINED=chosen.chained,
        REGISTERS=with_state,
        num_warps=4,
        maxnreg=at_launch,
    )


@gluon.jit(do_not_specialize=["T", "segments", "tiles"])
def reverse_kernel(
    q, k, do, inverse, attention, factors, dstates, dx, ragged, final_grad, initial_grad, lengths,
    T, H, HV, cu_seqlens, chunk_starts, segments, tiles,
    C: gl.constexpr, K: gl.constexpr, V: gl.constexpr, R: gl.constexpr, SLICE: gl.constexpr, SLICES: gl.constexpr,
    WARPGROUPS: gl.constexpr, HEADS: gl.constexpr, STAGES: gl.constexpr, OUT_TILES: gl.constexpr, HELD: gl.constexpr,
    CHAINED: gl.constexpr, REGISTERS: gl.constexpr,
):  # fmt: skip
    """One program: tile of V, then value head, then piece in its number; `_load` and `_walk` are its warps."""
    k_ring = allocate(k, STAGES * SLICES)
    q_ring = allocate(q, STAGES * SLICES)
    do_ring = allocate(do, STAGES * WARPGROUPS)
    t_ring = allocate(inverse, STAGES * HEADS) if inverse is not None else k_ring
    p_ring = allocate(attention, STAGES * HEADS)
    # Without dstates nothing is staged; a tuple for partitions holds no None that is not an argument.
    state_tile = allocate(dstates, WARPGROUPS * OUT_TILES) if dstates is not None else do_ring
    row_ring = allocate(factors, STAGES * HEADS)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=WARPGROUPS)
    fence_async_shared()

    tile = gl.program_id(0) % tiles
    head = gl.program_id(0) // tiles % (HV // HEADS) * HEADS
    piece = gl.program_id(0) // tiles // (HV // HEADS)
    batch, first, end, slot, chunk, chunk_end = locate_piece(piece, segments, T, cu_seqlens, chunk_starts, C)
    if lengths is not None:
        chunk_end = chunk + gl.load(lengths + piece * HV + head)
    # Batch row; first token of the piece's last chunk and the sequence's end; that chunk's [64, 64] block; chunks to
    # walk; value head; column of V.
    last = chunk_end - 1
    column = tile * (WARPGROUPS // HEADS * 64)
    here = (batch, first + last * C, end, (slot + last) * HV + head, chunk_end - chunk, head, column)

    rings = (k_ring, q_ring, do_ring, t_ring, p_ring, row_ring, full, empty)
    results = (state_tile, dstates, dx, ragged, final_grad, initial_grad)
    # Constants stay constants only as written into the call.
    inputs = (q, k, do, attention, factors, head // (HV // H))
    if WARPGROUPS == 1:
        gl.warp_specialize(
            [
                (_walk, (0, rings, results, here, piece, HV, inverse, K, V, HEADS, HELD, CHAINED)),
                (_load, (rings, inputs, inverse, here, HV, R, HEADS)),
            ],
            [1],
            [LOADER_REGISTERS],
        )
    elif WARPGROUPS == 2:
        gl.warp_specialize(
            [
                (_walk, (0, rings, results, here, piece, HV, inverse, K, V, HEADS, HELD, CHAINED)),
                (_walk, (1, rings, results, here, piece, HV, inverse, K, V, HEADS, HELD, CHAINED)),
                (_load, (rings, inputs, inverse, here, HV, R, HEADS)),
            ],
            [4, 1],
            [REGISTERS, LOADER_REGISTERS],
        )
    else:
        gl.warp_specialize(
            [
                (_walk, (0, rings, results, here, piece, HV, inverse, K, V, HEADS, HELD, CHAINED)),
                (_walk, (1, rings, results, here, piece, HV, inverse, K, V, HEADS, HELD, CHAINED)),
                (_walk, (2, rings, results, here, piece, HV, inverse, K, V, HEADS, HELD, CHAINED)),
                (_load, (rings, inputs, inverse, here, HV, R, HEADS)),
            ],
            [4, 4, 1],
            [REGISTERS, REGISTERS, LOADER_REGISTERS],
        )


@gluon.jit
def _load(rings, inputs, inverse, here, HV, R: gl.constexpr, HEADS: gl.constexpr):
    """The loader: fill the ring, chunk after chunk, as its stages become empty; first what is needed first."""
    k_ring, q_ring, do_ring, t_ring, p_ring, row_ring, full, empty = rings
    q, k, do, attention, factors, key_head = inputs
    batch, token, end, block, chunks, head, column = here
    C: gl.constexpr = k_ring.shape[2]
    STAGES: gl.constexpr = full.shape[0]
    SLICES: gl.constexpr = k_ring.shape[0] // STAGES
    SLICE: gl.constexpr = k_ring.shape[4]
    WARPGROUPS: gl.constexpr = do_ring.shape[0] // STAGES
    BYTES: gl.constexpr = (
        SLICES * (q.block_type.nbytes + k.block_type.nbytes) + WARPGROUPS * do.block_type.nbytes
        + HEADS * (attention.block_type.nbytes + factors.block_type.nbytes)
        + (HEADS * inverse.block_type.nbytes if inverse is not None else 0)
    )  # fmt: skip
    for n in range(chunks):
        stage = n % STAGES
        arrived = full.index(stage)
        mbarrier.wait(empty.index(stage), ((n // STAGES) & 1) ^ 1)
        mbarrier.expect(arrived, BYTES)
        for i in gl.static_range(SLICES):
            at = [batch, token, key_head, i * SLICE]
            tma.async_copy_global_to_shared(k, at, arrived, k_ring.index(stage * SLICES + i))
        for w in gl.static_range(WARPGROUPS):
            at = [batch, token, head + w % HEADS, column + w // HEADS * 64]
            tma.async_copy_global_to_shared(do, at, arrived, do_ring.index(stage * WARPGROUPS + w))
        for h in gl.static_range(HEADS):
            own = stage * HEADS + h
            at = [((block + h) * R + FIRST_FACTOR) * C]
            tma.async_copy_global_to_shared(attention, [(block + h) * C, 0], arrived, p_ring.index(own))
            tma.async_copy_global_to_shared(factors, at, arrived, row_ring.index(own))
            if inverse is not None:
                tma.async_copy_global_to_shared(inverse, [(block + h) * C, 0], arrived, t_ring.index(own))
        for i in gl.static_range(SLICES):
            at = [batch, token, key_head, i * SLICE]
            tma.async_copy_global_to_shared(q, at, arrived, q_ring.index(stage * SLICES + i))
        token -= C
        block -= HV


@gluon.jit
def _walk(
    w: gl.constexpr, rings, results, here, piece, HV, inverse,
    K: gl.constexpr, V: gl.constexpr, HEADS: gl.constexpr, HELD: gl.constexpr, CHAINED: gl.constexpr,
):  # fmt: skip
    """State warpgroup ``w``: 64 rows of dS^T through all chunks of the piece, backward."""
    k_ring, q_ring, do_ring, t_ring, p_ring, row_ring, full, empty = rings
    state_tile, dstates, dx, ragged, final_grad, initial_grad = results
    batch, token, end, block, chunks, head, column = here
    head += w % HEADS
    block += w % HEADS
    column += w // HEADS * 64
    C: gl.constexpr = k_ring.shape[2]
    STAGES: gl.constexpr = full.shape[0]
    SLICES: gl.constexpr = k_ring.shape[0] // STAGES
    SLICE: gl.constexpr = k_ring.shape[4]
    WARPGROUPS: gl.constexpr = do_ring.shape[0] // STAGES
    OUT_TILES: gl.constexpr = state_tile.shape[0] // WARPGROUPS
    DT: gl.constexpr = k_ring.dtype
    BY_TOKEN: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, C, 16])  # accumulator [64 of V, tokens]
    BY_KEY: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, SLICE, 16])  # accumulator [64 of V, SLICE]
    LEFT: gl.constexpr = gl.DotOperandLayout(0, BY_TOKEN, 2)
    LEFT_OF_S: gl.constexpr = gl.DotOperandLayout(0, BY_KEY, 2)
    FACTORS_OF: gl.constexpr = gl.SliceLayout(0, BY_TOKEN)

    place = (piece.to(gl.int64) * HV + head) * (K * V)
    vc = column + gl.arange(0, 64, gl.SliceLayout(1, BY_KEY))[:, None]
    dS = ()
    for i in gl.static_range(SLICES):
        kc = i * SLICE + gl.arange(0, SLICE, gl.SliceLayout(0, BY_KEY))[None, :]
        if final_grad is not None:
            part = gl.load(final_grad + place + kc * V + vc, mask=(kc < K) & (vc < V), other=0.0)
        else:
            part = gl.zeros([64, SLICE], gl.float32, BY_KEY)
        dS = dS + (part,)

    for n in range(chunks):
        stage = n % STAGES
        own = stage * HEADS + w % HEADS
        mbarrier.wait(full.index(stage), (n // STAGES) & 1)
        row = row_ring.index(own)
        do_tile = do_ring.index(stage * WARPGROUPS + w)
        do_left = do_tile.reshape([C, 64]).permute((1, 0))
        p_tile = p_ring.index(own)

        # dS^T k^T, and dS on its way out while that runs: the tiles are free, since each chunk waits for its stores.
        kS = gl.zeros([64, C], gl.float32, BY_TOKEN)
        lefts = ()
        for i in gl.static_range(SLICES):
            half = gl.convert_layout(dS[i].to(DT), LEFT, assert_trivial=True)
            k_tile = k_ring.index(stage * SLICES + i).reshape([C, SLICE])
            kS = warpgroup_mma(half, k_tile.permute((1, 0)), kS, use_acc=i > 0, is_async=True)
            lefts = lefts + (half,)
            if dstates is not None:
                out = state_tile.index(w * OUT_TILES + i % OUT_TILES)
                if i >= OUT_TILES:
                    tma.store_wait(OUT_TILES - 1)
                    gl.thread_barrier()
                out.reshape([SLICE, 64]).permute((1, 0)).store(half)
                fence_async_shared()
                gl.thread_barrier()
                tma.async_copy_shared_to_global(dstates, [block, i * SLICE, column], out)
            if i % HELD == HELD - 1 and i + 1 < SLICES:
                kS = warpgroup_mma_wait(0, deps=(kS,) + lefts)[0]
                lefts = ()

        # dDelta^T = write * (dS^T k^T) + dO^T P.
        if not CHAINED:
            dDelta = gl.zeros([64, C], gl.float32, BY_TOKEN)
            dDelta = warpgroup_mma(do_left, p_tile, dDelta, use_acc=False, is_async=True)
        read = row.slice(C, C).load(gl.SliceLayout(0, LEFT))
        read_do = (do_left.load(LEFT).to(gl.float32) * read[None, :]).to(DT)
        write = row.slice(2 * C, C).load(FACTORS_OF)
        if not CHAINED:
            waited = warpgroup_mma_wait(0, deps=(kS, dDelta) + lefts)
            dDelta = waited[0] * write[None, :] + waited[1]
        else:
            kS = warpgroup_mma_wait(0, deps=(kS,) + lefts)[0] * write[None, :]
            dDelta = warpgroup_mma_wait(0, deps=(warpgroup_mma(do_left, p_tile, kS, is_async=True),))

        # dX^T = dDelta^T T, and behind it total * dS^T + (read * dO)^T q.
        dX = dDelta
        if inverse is not None:
            left = gl.convert_layout(dDelta.to(DT), LEFT, assert_trivial=True)
            dX = gl.zeros([64, C], gl.float32, BY_TOKEN)
            dX = warpgroup_mma(left, t_ring.index(own), dX, use_acc=False, is_async=True)
        total = gl.exp2(row.slice(4 * C - 1, 1).load(gl.SliceLayout(0, BY_KEY)))[None, :]
        read_do = gl.convert_layout(read_do, LEFT_OF_S, assert_trivial=True)
        grown = ()
        for i in gl.static_range(SLICES):
            q_tile = q_ring.index(stage * SLICES + i).reshape([C, SLICE])
            grown = grown + (warpgroup_mma(read_do, q_tile, dS[i] * total, is_async=True),)
        operands = (read_do,)
        if inverse is not None:
            dX = warpgroup_mma_wait(SLICES, deps=(dX, left))[0]
            # - (recall * dX)^T k
            recall = row.slice(0, C).load(FACTORS_OF)
            removed = gl.convert_layout((dX * -recall[None, :]).to(DT), LEFT_OF_S, assert_trivial=True)
            dS = ()
            for i in gl.static_range(SLICES):
                k_tile = k_ring.index(stage * SLICES + i).reshape([C, SLICE])
                dS = dS + (warpgroup_mma(removed, k_tile, grown[i], is_async=True),)
            operands = (read_do, removed)
        else:
            dS = grown
        # dX on its way out where dO was.
        if dx is not None:
            do_left.store(dX.to(DT))
            fence_async_shared()
            gl.thread_barrier()
            store_tokens(do_tile, dx, ragged, batch, token, end, head, column, C, V)
        dS = warpgroup_mma_wait(0, deps=dS + operands)[:SLICES]
        tma.store_wait(0)
        gl.thread_barrier()
        mbarrier.arrive(empty.index(stage), count=1)
        token -= C
        block -= HV

    if initial_grad is not None:
        for i in gl.static_range(SLICES):
            kc = i * SLICE + gl.arange(0, SLICE, gl.SliceLayout(0, BY_KEY))[None, :]
            gl.store(initial_grad + place + kc * V + vc, dS[i], mask=(kc < K) & (vc < V))
