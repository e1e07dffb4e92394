"""`scan` for sm_90 in Gluon: states stay in registers, and every product takes its left operand from there.

What the plain version computes, transposed, so that a token is a column and each accumulator, rounded, is the left
operand of the next product as it lies in a warpgroup's registers:

    sk      = S^T k^T                          X^T  = beta * v^T - recall * sk
    Delta^T = X^T T^T
    O^T     = read * (S^T q^T) + Delta^T P^T
    S'^T    = total * S^T + (write * Delta)^T k

Without an inverse (`ssd`) there is neither sk nor T: Delta is beta v.

Program (tile of V, value head, piece) walks the piece's chunks with ``64 * WARPGROUPS`` rows of S^T, which are those of
one head or, with ``HEADS``, 64 of each of as many neighbours that share q and k:

    warps                 work                             registers (float32)
    loader (1 warp)       TMA loads of the chunks to come  -
    state warpgroup w     its own 64 rows of everything    S^T as slices [64, SLICE]; sk, X^T, Delta^T, O^T [64, 64]

    shared memory         shape                            filled by     read by
    k_ring, q_ring        [STAGES * SLICES, 64, SLICE]     loader        products, as right operand
    v_ring                [STAGES * WARPGROUPS, 64, 64]    loader        warpgroup w, its own 64 columns, transposed
    t_ring, p_ring        [STAGES * HEADS, 64, 64]         loader        products, as right operand
    row_ring              [STAGES * HEADS, 256] float32    loader        all: beta, recall, read, write by token
    token_tile            [WARPGROUPS, 64, 64]             warpgroup w   TMA store of O or Delta
    state_tile            [WARPGROUPS * SLICES, SLICE, 64] warpgroup w   TMA store of S at the chunk's start
    full, empty           mbarriers [STAGES]               a stage's loads have arrived; all warpgroups are done with it

The warpgroups share nothing but the ring: they drift apart, and the arithmetic of one fills the gaps between products
of the other. K is cut into slices because the sides of a tile are powers of two; what lies beyond K, V or T loads as
zero and is not stored. Only behind the end of a packed sequence do tokens of another follow: their factors are zero,
and the stores of such a chunk are masked.
"""

import functools
from dataclasses import dataclass

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

FACTORS = 4  # beta, recall, read and write lead `ROWS`: one load of 256 numbers
DECAY = gl.constexpr(ROWS.index("decay"))


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """How a program is built, in the words of the map above.

    Attributes:
        slice_width, slices: of K.
        warpgroups: with state, 64 columns of V each.
        heads: that the warpgroups belong to: one each, or all to one.
        stages: of the ring.
        resident: programs that share an SM and its registers.
        overlap: compute X while the product with q still runs.
    """

    slice_width: int
    slices: int
    warpgroups: int
    stages: int
    resident: int
    heads: int = 1
    overlap: bool = True


@functools.cache
def configure(
    key_dim: int, value_dim: int, programs: int, *, output: bool, states: bool, inverse: bool = True, group: int = 1
) -> Configuration:
    """Return how to build the kernel for a shape, for ``programs`` pieces times value heads and for what is written.

    - The widest slices of K without zeros beyond multiples of 32; above 128 keys at most 64 (registers).
    - Two state warpgroups, which share the ring, unless V has no second half or there were fewer than two programs to
      an SM (as measured); a walk for its end alone has the tiles of its transition besides. Where V has no second half,
      `pairs` of heads may share.
    - Programs by SM: one, which then has more stages; with one warpgroup up to 64 keys 2 (128 without an inverse), up
      to 32 keys 3.
    - Then as many stages as fit.
    """
    padded = cdiv(key_dim, 32) * 32
    widths = (32, 64, 128) if padded <= 128 else (32, 64)
    slice_width = max(width for width in widths if padded % width == 0)
    halves = cdiv(value_dim, 64)
    few = (output or states) and programs * cdiv(halves, 2) < 2 * SMS
    heads = 2 if halves == 1 and pairs(padded, programs, inverse=inverse, group=group) else 1
    warpgroups = heads if halves == 1 or few else 2
    residents = (1,) if warpgroups == 2 or padded > (64 if inverse else 128) else (2, 1) if padded > 32 else (3, 2, 1)
    for resident in residents:
        for stages in (4, 3, 2):
            chosen = Configuration(
                slice_width=slice_width,
                slices=padded // slice_width,
                warpgroups=warpgroups,
                stages=stages,
                resident=resident,
                heads=heads,
            )
            wanted = shared_bytes(chosen, output=output, states=states, inverse=inverse)
            if resident * (SHARED_RESERVED + wanted) <= SHARED_BYTES_OF_SM:
                return chosen
    raise AssertionError(f"no configuration for K {key_dim}, V {value_dim}")


def shared_bytes(chosen: Configuration, *, output: bool, states: bool, inverse: bool = True) -> int:
    """Return the shared memory of a program: the ring, the tiles on their way out, and a little for barriers."""
    keys = 2 * CHUNK * chosen.slice_width * chosen.slices
    values = 2 * CHUNK * 64 * chosen.warpgroups
    square = 2 * CHUNK * CHUNK
    by_head = (output + inverse) * square + 4 * FACTORS * CHUNK
    stage = (1 + output) * keys + values + chosen.heads * by_head
    out = values * (output or (states and inverse)) + keys * chosen.warpgroups * states
    return chosen.stages * stage + out + 512


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
    chosen: Configuration | None = None,
) -> None:
    """Walk each of ``sequences * segments`` pieces from its ``initial`` state: `gated_delta.gpu.scan.run` for sm_90.

    Args:
        layout, segments, k, v, rows, inverse, initial, q, attention, output, states, delta, final, transition: as
            there; ``q, k, v, output, delta`` are as `choice.movable` gives them. Not both ``output`` and ``states``.
        chosen: None takes `configure`'s.
    """
    if output is not None and states is not None:
        raise ValueError("got output and states; this kernel writes one of them: walk twice")
    programs = layout.sequences * segments * layout.value_heads
    if chosen is None:
        about = {"output": output is not None, "states": states is not None, "inverse": inverse is not None}
        group = layout.value_heads // layout.heads
        chosen = configure(layout.key_dim, layout.value_dim, programs, **about, group=group)
    width = 64 * chosen.warpgroups // chosen.heads
    tiles = cdiv(layout.value_dim, width) + (cdiv(layout.key_dim, width) if transition is not None else 0)
    tokens = delta if output is None else output
    value_tile = [1, CHUNK, 1, 64]
    key_tile = [1, CHUNK, 1, chosen.slice_width]
    flat_states = None if states is None else states.view(-1, layout.key_dim, layout.value_dim)
    at_launch, with_state = registers(chosen.warpgroups, chosen.resident)
    launch(
        scan_kernel,
        (tiles * programs // chosen.heads,),
        k=descriptor(k, key_tile),
        q=descriptor(q, key_tile),
        v=descriptor(v, value_tile),
        inverse=descriptor(None if inverse is None else inverse.view(-1, CHUNK), [CHUNK, CHUNK]),
        attention=descriptor(None if attention is None else attention.view(-1, CHUNK), [CHUNK, CHUNK]),
        factors=descriptor(rows.view(-1), [FACTORS * CHUNK]),
        tokens=descriptor(tokens, value_tile),
        states=descriptor(flat_states, [1, chosen.slice_width, 64]),
        ragged=None if layout.cu_seqlens is None else tokens,
        decay=rows,
        initial=initial,
        final=final,
        transition=transition,
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
        OVERLAP=chosen.overlap,
        WORKER_REGISTERS=with_state,
        num_warps=4,
        maxnreg=at_launch,
    )


@gluon.jit(do_not_specialize=["T", "H", "HV", "segments", "tiles"])
def scan_kernel(
    k, q, v, inverse, attention, factors, tokens, states, ragged, decay, initial, final, transition, lengths,
    T, H, HV, cu_seqlens, chunk_starts, segments, tiles,
    C: gl.constexpr, K: gl.constexpr, V: gl.constexpr, R: gl.constexpr, SLICE: gl.constexpr, SLICES: gl.constexpr,
    WARPGROUPS: gl.constexpr, HEADS: gl.constexpr, STAGES: gl.constexpr, OVERLAP: gl.constexpr,
    WORKER_REGISTERS: gl.constexpr,
):  # fmt: skip
    """One program: tile of V, then value head, then piece in its number; `_load` and `_walk` are its warps."""
    # A tile that a mode lacks is named by another, and not used.
    k_ring = allocate(k, STAGES * SLICES)
    q_ring = allocate(q, STAGES * SLICES) if q is not None else k_ring
    v_ring = allocate(v, STAGES * WARPGROUPS)
    t_ring = allocate(inverse, STAGES * HEADS) if inverse is not None else k_ring
    p_ring = allocate(attention, STAGES * HEADS) if q is not None else t_ring
    row_ring = allocate(factors, STAGES * HEADS)
    token_tile = allocate(tokens, WARPGROUPS) if tokens is not None else v_ring
    state_tile = allocate(states, WARPGROUPS * SLICES) if states is not None else k_ring
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
    identity = 1.0
    if lengths is not None:
        skipped = chunk_end - chunk - gl.load(lengths + piece * HV + head)
        chunk += skipped
        identity = gl.where(skipped > 0, 0.0, 1.0)
    # Batch row; first token and the sequence's end; first [64, 64] block; chunks to walk; value head; column of V.
    column = tile * (WARPGROUPS // HEADS * 64)
    here = (batch, first + chunk * C, end, (slot + chunk) * HV + head, chunk_end - chunk, head, column)

    rings = (k_ring, q_ring, v_ring, t_ring, p_ring, row_ring, full, empty)
    out = (token_tile, state_tile)
    key_head = head // (HV // H)
    if WARPGROUPS == 1:
        gl.warp_specialize(
            [
                (_walk, (0, rings, out, q, tokens, states, ragged, decay, initial, final, transition, here, piece, HV,
                         identity, inverse, K, V, R, HEADS, OVERLAP)),
                (_load, (rings, k, q, v, inverse, attention, factors, here, key_head, HV, R, HEADS)),
            ],
            [1],
            [LOADER_REGISTERS],
        )  # fmt: skip
    else:
        gl.warp_specialize(
            [
                (_walk, (0, rings, out, q, tokens, states, ragged, decay, initial, final, transition, here, piece, HV,
                         identity, inverse, K, V, R, HEADS, OVERLAP)),
                (_walk, (1, rings, out, q, tokens, states, ragged, decay, initial, final, transition, here, piece, HV,
                         identity, inverse, K, V, R, HEADS, OVERLAP)),
                (_load, (rings, k, q, v, inverse, attention, factors, here, key_head, HV, R, HEADS)),
            ],
            [4, 1],
            [WORKER_REGISTERS, LOADER_REGISTERS],
        )  # fmt: skip


@gluon.jit
def _load(rings, k, q, v, inverse, attention, factors, here, key_head, HV, R, HEADS):
    """The loader: fill the ring, chunk after chunk, as its stages become empty."""
    k_ring, q_ring, v_ring, t_ring, p_ring, row_ring, full, empty = rings
    C: gl.constexpr = k_ring.shape[2]
    STAGES: gl.constexpr = full.shape[0]
    SLICES: gl.constexpr = k_ring.shape[0] // STAGES
    SLICE: gl.constexpr = k_ring.shape[4]
    WARPGROUPS: gl.constexpr = v_ring.shape[0] // STAGES
    batch, token, end, block, chunks, head, column = here
    BYTES: gl.constexpr = (
        SLICES * k.block_type.nbytes + WARPGROUPS * v.block_type.nbytes + HEADS * factors.block_type.nbytes
        + (HEADS * inverse.block_type.nbytes if inverse is not None else 0)
        + (SLICES * q.block_type.nbytes + HEADS * attention.block_type.nbytes if q is not None else 0)
    )  # fmt: skip
    for n in range(chunks):
        stage = n % STAGES
        arrived = full.index(stage)
        mbarrier.wait(empty.index(stage), ((n // STAGES) & 1) ^ 1)
        mbarrier.expect(arrived, BYTES)
        for i in gl.static_range(SLICES):
            at = [batch, token, key_head, i * SLICE]
            tma.async_copy_global_to_shared(k, at, arrived, k_ring.index(stage * SLICES + i))
            if q is not None:
                tma.async_copy_global_to_shared(q, at, arrived, q_ring.index(stage * SLICES + i))
        for w in gl.static_range(WARPGROUPS):
            at = [batch, token, head + w % HEADS, column + w // HEADS * 64]
            tma.async_copy_global_to_shared(v, at, arrived, v_ring.index(stage * WARPGROUPS + w))
        for h in gl.static_range(HEADS):
            own = stage * HEADS + h
            tma.async_copy_global_to_shared(factors, [(block + h) * (R * C)], arrived, row_ring.index(own))
            if inverse is not None:
                tma.async_copy_global_to_shared(inverse, [(block + h) * C, 0], arrived, t_ring.index(own))
            if q is not None:
                tma.async_copy_global_to_shared(attention, [(block + h) * C, 0], arrived, p_ring.index(own))
        token += C
        block += HV


@gluon.jit
def _walk(
    w, rings, out, q, tokens, states, ragged, decay, initial, final, transition, here, piece, HV,
    identity, inverse, K, V, R, HEADS, OVERLAP
):  # fmt: skip
    """State warpgroup ``w``: 64 rows of S^T through all chunks of the piece."""
    k_ring, q_ring, v_ring, t_ring, p_ring, row_ring, full, empty = rings
    token_tile, state_tile = out
    batch, token, end, block, chunks, head, column = here
    head += w % HEADS
    block += w % HEADS
    column += w // HEADS * 64
    C: gl.constexpr = k_ring.shape[2]
    STAGES: gl.constexpr = full.shape[0]
    SLICES: gl.constexpr = k_ring.shape[0] // STAGES
    SLICE: gl.constexpr = k_ring.shape[4]
    WARPGROUPS: gl.constexpr = v_ring.shape[0] // STAGES
    DT: gl.constexpr = k_ring.dtype
    BY_TOKEN: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, C, 16])  # accumulator [64 of V, tokens]
    BY_KEY: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, SLICE, 16])  # accumulator [64 of V, SLICE]
    LEFT: gl.constexpr = gl.DotOperandLayout(0, BY_TOKEN, 2)
    LEFT_OF_S: gl.constexpr = gl.DotOperandLayout(0, BY_KEY, 2)
    FACTORS_OF: gl.constexpr = gl.SliceLayout(0, BY_TOKEN)
    OUTPUT: gl.constexpr = q is not None
    DELTA: gl.constexpr = inverse is not None
    # Up to 128 keys there are registers for all of S rounded, beside S itself; beyond, for one slice at a time.
    WIDE: gl.constexpr = SLICES * SLICE > 128
    # Tiles of V from here on hold the columns of the transition, which starts as the identity.
    IDENTITY: gl.constexpr = (V + WARPGROUPS * 64 - 1) // (WARPGROUPS * 64) * (WARPGROUPS * 64)

    place = (piece.to(gl.int64) * HV + head) * (K * V)
    vc = column + gl.arange(0, 64, gl.SliceLayout(1, BY_KEY))[:, None]
    S = ()
    for i in gl.static_range(SLICES):
        kc = i * SLICE + gl.arange(0, SLICE, gl.SliceLayout(0, BY_KEY))[None, :]
        if initial is not None:
            part = gl.load(initial + place + kc * V + vc, mask=(kc < K) & (vc < V), other=0.0)
        else:
            part = gl.zeros([64, SLICE], gl.float32, BY_KEY)
        if transition is not None:
            part += gl.where(kc == vc - IDENTITY, identity, 0.0)
        S = S + (part,)

    # The last decay of a chunk is its total; it is read a chunk ahead.
    last = decay + (block.to(gl.int64) * R + DECAY) * C + C - 1
    log_total = gl.load(last, mask=chunks > 0, other=0.0)
    for n in range(chunks):
        stage = n % STAGES
        own = stage * HEADS + w % HEADS
        total = gl.exp2(log_total)
        last += HV * (R * C)
        log_total = gl.load(last, mask=n + 1 < chunks, other=0.0)
        mbarrier.wait(full.index(stage), (n // STAGES) & 1)

        if states is not None:
            # Of the stores of the chunk before, that of Delta, the last, may still run.
            tma.store_wait(1 if DELTA else 0)
            gl.thread_barrier()
        sk = gl.zeros([64, C], gl.float32, BY_TOKEN)
        o = gl.zeros([64, C], gl.float32, BY_TOKEN)
        lefts = ()
        for i in gl.static_range(SLICES):
            half = _round(S[i], DT)
            if states is not None:
                state_tile.index(w * SLICES + i).reshape([SLICE, 64]).permute((1, 0)).store(half)
            left = gl.convert_layout(half, LEFT, assert_trivial=True)
            if DELTA:
                k_tile = k_ring.index(stage * SLICES + i).reshape([C, SLICE]).permute((1, 0))
                sk = warpgroup_mma(left, k_tile, sk, use_acc=i > 0, is_async=True)
            if WIDE and OUTPUT:
                q_tile = q_ring.index(stage * SLICES + i).reshape([C, SLICE]).permute((1, 0))
                o = warpgroup_mma(left, q_tile, o, use_acc=i > 0, is_async=True)
            if WIDE:
                waited = warpgroup_mma_wait(0, deps=(sk, o, left))
                sk = waited[0]
                o = waited[1]
            else:
                lefts = lefts + (left,)
        if OUTPUT and not WIDE:
            for i in gl.static_range(SLICES):
                q_tile = q_ring.index(stage * SLICES + i).reshape([C, SLICE]).permute((1, 0))
                o = warpgroup_mma(lefts[i], q_tile, o, use_acc=i > 0, is_async=True)
        if states is not None:
            fence_async_shared()
            gl.thread_barrier()
            for i in gl.static_range(SLICES):
                source = state_tile.index(w * SLICES + i)
                tma.async_copy_shared_to_global(states, [block, i * SLICE, column], source)

        row = row_ring.index(own)
        v_tile = v_ring.index(stage * WARPGROUPS + w).reshape([C, 64]).permute((1, 0)).load(BY_TOKEN)
        if DELTA and not WIDE:
            if OUTPUT and OVERLAP:
                sk = warpgroup_mma_wait(SLICES, deps=(sk,))
            elif OUTPUT:
                waited = warpgroup_mma_wait(0, deps=(sk, o) + lefts)
                sk = waited[0]
                o = waited[1]
            else:
                sk = warpgroup_mma_wait(0, deps=(sk,) + lefts)[0]

        beta = row.slice(0, C).load(FACTORS_OF)
        X = beta[None, :] * v_tile.to(gl.float32)
        if DELTA:
            recall = row.slice(C, C).load(FACTORS_OF)
            X -= recall[None, :] * sk
            X_half = gl.convert_layout(_round(X, DT), LEFT, assert_trivial=True)
            delta = gl.zeros([64, C], gl.float32, BY_TOKEN)
            T_tile = t_ring.index(own).permute((1, 0))
            delta = warpgroup_mma(X_half, T_tile, delta, use_acc=False, is_async=True)
            if OUTPUT and OVERLAP and not WIDE:
                o = warpgroup_mma_wait(1, deps=(o,) + lefts)[0]
            delta = warpgroup_mma_wait(0, deps=(delta, X_half))[0]
        else:
            delta = X
        if tokens is not None:
            delta_half = _round(delta, DT)
        write = row.slice(3 * C, C).load(FACTORS_OF)
        written = gl.convert_layout(_round(delta * write[None, :], DT), LEFT_OF_S, assert_trivial=True)
        if OUTPUT:
            if not DELTA and not WIDE:
                o = warpgroup_mma_wait(0, deps=(o,) + lefts)[0]
            o *= row.slice(2 * C, C).load(FACTORS_OF)[None, :]
            delta_left = gl.convert_layout(delta_half, LEFT, assert_trivial=True)
            o = warpgroup_mma(delta_left, p_ring.index(own).permute((1, 0)), o, is_async=True)
        updated = ()
        for i in gl.static_range(SLICES):
            k_tile = k_ring.index(stage * SLICES + i).reshape([C, SLICE])
            updated = updated + (warpgroup_mma(written, k_tile, S[i] * total, is_async=True),)
        if OUTPUT:
            if OVERLAP:
                o = warpgroup_mma_wait(SLICES, deps=(o, delta_left))[0]
                _store_tokens(_round(o, DT), token_tile.index(w), tokens, ragged, batch, token, end, head, column, 0, V)
                S = warpgroup_mma_wait(0, deps=updated + (written,))[:SLICES]
            else:
                S = warpgroup_mma_wait(0, deps=updated + (o, delta_left, written))
                o = S[SLICES]
                S = S[:SLICES]
        else:
            S = warpgroup_mma_wait(0, deps=updated + (written,))[:SLICES]
        mbarrier.arrive(empty.index(stage), count=1)
        if OUTPUT and not OVERLAP:
            _store_tokens(_round(o, DT), token_tile.index(w), tokens, ragged, batch, token, end, head, column, 0, V)
        if states is not None and DELTA:
            _store_tokens(delta_half, token_tile.index(w), tokens, ragged, batch, token, end, head, column, SLICES, V)
        token += C
        block += HV

    tma.store_wait(0)
    for i in gl.static_range(SLICES):
        kc = i * SLICE + gl.arange(0, SLICE, gl.SliceLayout(0, BY_KEY))[None, :]
        if final is not None:
            gl.store(final + place + kc * V + vc, S[i], mask=(kc < K) & (vc < V))
        if transition is not None:
            mc = vc - IDENTITY
            at = transition + (piece.to(gl.int64) * HV + head) * (K * K) + kc * K + mc
            gl.store(at, S[i], mask=(kc < K) & (mc >= 0) & (mc < K))


@gluon.jit
def _round(x, DT):
    """Return ``x`` in type ``DT``, two numbers an instruction, at this place.

    Left to the compiler, numbers with two uses are rounded one by one, and earlier than there are registers for.
    """
    if DT == gl.bfloat16:
        BFLOAT16_PAIR: gl.constexpr = "cvt.rn.bf16x2.f32 $0, $2, $1;"
        return gl.inline_asm_elementwise(BFLOAT16_PAIR, "=r,r,r", [x], dtype=gl.bfloat16, is_pure=False, pack=2)
    else:
        FLOAT16_PAIR: gl.constexpr = "cvt.rn.f16x2.f32 $0, $2, $1;"
        return gl.inline_asm_elementwise(FLOAT16_PAIR, "=r,r,r", [x], dtype=gl.float16, is_pure=False, pack=2)


@gluon.jit
def _store_tokens(half, tile, tokens, ragged, batch, token, end, head, column, PENDING, V):
    """Store ``half [64 of V, tokens]`` by way of ``tile`` as ``tokens [.., tokens, 64 of V]``, not beyond ``end``.

    All but the newest ``PENDING`` stores have read their tiles before this one is overwritten.
    """
    C: gl.constexpr = half.shape[1]
    tma.store_wait(PENDING)
    gl.thread_barrier()
    tile.reshape([C, 64]).permute((1, 0)).store(half)
    fence_async_shared()
    gl.thread_barrier()
    store_tokens(tile, tokens, ragged, batch, token, end, head, column, C, V)
