"""One token of attention on a GPU: each program walks a part of what is filled of a head's cache, read once.

The number of programs is fixed, so that a CUDA graph holds the launch; where their parts begin follows from the lengths
on the device. A head's parts are put together by the program that arrives last, in the order of the parts, so that
results do not depend on which one that is.
"""

import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs

from gdnbench_kernels.gpu import ring as rings
from gdnbench_kernels.gpu.pdl import launch_dependents, overlapping, wait
from gdnbench_kernels.gpu.prefetching import prefetch
from gdnbench_kernels.launching import launch, on_its_device

WARPS = 528 * 4  # sixteen for each SM of an H200: heads are cut into parts until there are so many
REGISTERS = 128  # of a thread, so that sixteen warps fit
MOST_PARTS = 128
WARP_TILE = 1024  # elements of keys, and as many of values, that a warp takes at once
WARP_COMBINED = 1024  # elements of parts that it puts together at once
STAGES = 3
AHEAD = 2  # blocks after the first that are asked for before the kernel before has ended
LINE_BYTES = 128  # of a cache line
_INTERPRETED = tl.constexpr(knobs.runtime.interpret)
LOWEST = tl.constexpr(-1e30)  # what no score falls below; as -inf, but its differences are numbers
DOT_ROWS = 16  # the least rows of a matrix product


class Cut(NamedTuple):
    """How the work is cut.

    Attributes:
        parts: programs that share the cache of a row and head.
        block: keys that a program takes at once.
        warps: of a program.
        stages: of loads that are on their way, in blocks.
    """

    parts: int
    block: int
    warps: int
    stages: int


def cut(rows: int, group: int, head_dim: int, capacity: int) -> Cut:
    """Return how to cut the caches of ``rows`` pairs of row and key head, ``capacity`` long, by ``group`` queries."""
    width = 2 * half_block(head_dim)
    # What many parts of wide heads, or of groups, put out takes long to put together: fewer parts, of more warps.
    warps = 4 if width <= 128 else 8
    block = max(DOT_ROWS if group > 1 else 4, warps * WARP_TILE // width)
    most = MOST_PARTS if group == 1 else MOST_PARTS // 4
    parts = min(most, triton.cdiv(capacity, block), triton.cdiv(WARPS // warps, rows))
    return Cut(max(1, parts), block, warps, STAGES)


def half_block(head_dim: int) -> int:
    """Return the power of two that holds half a head."""
    return max(16, triton.next_power_of_2(head_dim // 2))


@on_its_device
def attention_decode(
    inputs: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor,
    frequencies: Tensor,
    *,
    heads: int,
    scale: float,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    eps: float,
    conv_weight: Tensor | None,
    ring: Tensor | None,
    arrived: Tensor | None,
    settled: bool,
) -> Tensor:
    """Run the kernel; see `attention_decode.api.attention_decode`."""
    batch, capacity, key_heads, dim = keys.shape
    group = heads // key_heads
    how = cut(batch * key_heads, group, dim, capacity)
    partial, sums = None, None
    if how.parts > 1:
        partial = inputs.new_empty(batch * heads, how.parts, dim, dtype=torch.float32)
        sums = inputs.new_empty(batch * heads, how.parts, 2, dtype=torch.float32)
        if arrived is None:
            arrived = torch.zeros(batch, key_heads, dtype=torch.int32, device=inputs.device)
    o = inputs.new_empty(batch, heads * dim)
    launch(
        attention_decode_kernel,
        (how.parts, key_heads, batch),
        inputs=inputs,
        keys=keys,
        values=values,
        lengths=lengths,
        frequencies=frequencies,
        q_norm=q_norm,
        k_norm=k_norm,
        conv_weight=conv_weight,
        ring=ring,
        arrived=arrived,
        partial=partial,
        sums=sums,
        o=o,
        inputs_sb=inputs.stride(0),
        conv_sc=0 if conv_weight is None else conv_weight.stride(0),
        conv_sw=0 if conv_weight is None else conv_weight.stride(1),
        **_strides(keys=keys, values=values),
        capacity=capacity,
        key_heads=key_heads,
        parts=how.parts,
        scale=scale / math.log(2.0),
        eps=float(eps),
        D=dim,
        BH=half_block(dim),
        GROUP=group,
        BG=1 if group == 1 else max(DOT_ROWS, triton.next_power_of_2(group)),
        SIZE=1 if ring is None else ring.shape[1],
        CUT=how.parts > 1,
        BN=how.block,
        BP=max(1, how.warps * WARP_COMBINED // half_block(dim)),
        SETTLED=settled,
        STAGES=how.stages,
        AHEAD=AHEAD if settled else 0,
        LINES=triton.next_power_of_2(triton.cdiv(dim * keys.element_size(), LINE_BYTES)),
        LINE=LINE_BYTES // keys.element_size(),
        num_warps=how.warps,
        maxnreg=REGISTERS,
        **overlapping(inputs.device),
    )
    return o


def _strides(**caches: Tensor) -> dict[str, Any]:
    return {f"{name}_s{letter}": x.stride(dim) for name, x in caches.items() for dim, letter in enumerate("bsh")}


@triton.jit(do_not_specialize=["capacity", "key_heads", "parts", "scale", "eps"])
def attention_decode_kernel(
    inputs, keys, values, lengths, frequencies, q_norm, k_norm, conv_weight, ring, arrived, partial, sums, o,
    inputs_sb, conv_sc, conv_sw, keys_sb, keys_ss, keys_sh, values_sb, values_ss, values_sh,
    capacity, key_heads, parts, scale, eps,
    D: tl.constexpr, BH: tl.constexpr, GROUP: tl.constexpr, BG: tl.constexpr, SIZE: tl.constexpr,
    CUT: tl.constexpr, BN: tl.constexpr, BP: tl.constexpr,
    SETTLED: tl.constexpr, STAGES: tl.constexpr, AHEAD: tl.constexpr, LINES: tl.constexpr, LINE: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Program (part, key head, row). Halves of a head, which the rotation mixes, are tensors of their own, a and b."""
    HALF: tl.constexpr = D // 2
    launch_dependents(PDL)
    part = tl.program_id(0)
    head = tl.program_id(1)
    row = tl.program_id(2).to(tl.int64)
    if not SETTLED:
        wait(PDL)
    length = tl.load(lengths + row)
    # Equal parts of what is filled, in whole blocks; part 0 also has the new token.
    each = tl.maximum(tl.cdiv(tl.cdiv(length, parts), BN), 1) * BN
    filled_parts = tl.maximum(tl.cdiv(length, each), 1)
    start = part * each
    end = tl.minimum(start + each, length)
    if start >= tl.maximum(length, 1):
        if SETTLED:
            wait(PDL)
        return

    key = tl.arange(0, BN)
    channel = tl.arange(0, BH)
    inside = channel < HALF
    keys += row * keys_sb + head * keys_sh
    values += row * values_sb + head * values_sh
    from_k = keys + start.to(tl.int64) * keys_ss + key[:, None] * keys_ss + channel[None, :]
    from_v = values + start.to(tl.int64) * values_ss + key[:, None] * values_ss + channel[None, :]
    # The first block comes before all that the kernel before this one makes.
    here = (start + key < end)[:, None] & inside[None, :]
    k_a = tl.load(from_k, mask=here, other=0.0)
    k_b = tl.load(from_k + HALF, mask=here, other=0.0)
    v_a = tl.load(from_v, mask=here, other=0.0)
    v_b = tl.load(from_v + HALF, mask=here, other=0.0)
    if PDL and AHEAD > 0:
        later = BN + tl.arange(0, AHEAD * BN)
        line = tl.arange(0, LINES) * LINE
        there = (start + later < end)[:, None] & (line < D)[None, :]
        later = start.to(tl.int64) + later
        prefetch(keys + later[:, None] * keys_ss + line[None, :], there)
        prefetch(values + later[:, None] * values_ss + line[None, :], there)
    turns = length.to(tl.float64) * tl.load(frequencies + channel, mask=inside, other=0.0)
    angle = ((turns - tl.floor(turns + 0.5)) * 6.283185307179586).to(tl.float32)
    cos, sin = _approximate(angle)
    if SETTLED:
        wait(PDL)

    member = tl.arange(0, BG)
    query = (head * GROUP + member)[:, None] * D + channel[None, :]
    asked = (member < GROUP)[:, None] & inside[None, :]
    channels = (key_heads * (GROUP + 2)) * D
    inputs += row * inputs_sb
    if conv_weight is not None:
        ring += row * SIZE * channels
    q_a, q_b = _read(inputs, ring, conv_weight, conv_sc, conv_sw, length, query, asked, channels, part, HALF, SIZE)
    if q_norm is not None:
        q_a, q_b = _normalize(q_a, q_b, q_norm, channel, inside, eps, D)
    q_a, q_b = (q_a * cos - q_b * sin) * scale, (q_a * sin + q_b * cos) * scale

    s_a = q_a if GROUP == 1 else q_a.to(k_a.dtype)
    s_b = q_b if GROUP == 1 else q_b.to(k_a.dtype)
    # With one query, each row of a block is a sum of its own over the blocks: no block needs its rows added up.
    SUMS: tl.constexpr = BN if GROUP == 1 else BG
    top = tl.full([SUMS], LOWEST, tl.float32)
    total = tl.zeros([SUMS], tl.float32)
    o_a = tl.zeros([SUMS, BH], tl.float32)
    o_b = tl.zeros([SUMS, BH], tl.float32)
    top, total, o_a, o_b = _attend(s_a, s_b, k_a, k_b, v_a, v_b, start + key < end, top, total, o_a, o_b, GROUP)
    for begin in tl.range(start + BN, end, BN, num_stages=STAGES):
        from_k += BN * keys_ss
        from_v += BN * values_ss
        filled = begin + key < end
        more = filled[:, None] & inside[None, :]
        next_k_a = tl.load(from_k, mask=more, other=0.0)
        next_k_b = tl.load(from_k + HALF, mask=more, other=0.0)
        next_v_a = tl.load(from_v, mask=more, other=0.0)
        next_v_b = tl.load(from_v + HALF, mask=more, other=0.0)
        top, total, o_a, o_b = _attend(
            s_a, s_b, next_k_a, next_k_b, next_v_a, next_v_b, filled, top, total, o_a, o_b, GROUP
        )

    if GROUP == 1:
        highest = tl.max(top, 0)
        weight = tl.exp2(top - highest)
        total = tl.sum(total * weight, 0)[None]
        o_a = tl.sum(o_a * weight[:, None], 0)[None, :]
        o_b = tl.sum(o_b * weight[:, None], 0)[None, :]
        top = highest[None]

    if part == 0:
        own = ((key_heads * GROUP + head) * D + channel)[None, :]
        alone = inside[None, :]
        n_a, n_b = _read(inputs, ring, conv_weight, conv_sc, conv_sw, length, own, alone, channels, part, HALF, SIZE)
        if k_norm is not None:
            n_a, n_b = _normalize(n_a, n_b, k_norm, channel, inside, eps, D)
        n_a, n_b = (n_a * cos - n_b * sin).to(k_a.dtype), (n_a * sin + n_b * cos).to(k_a.dtype)
        own += key_heads * D
        w_a, w_b = _read(inputs, ring, conv_weight, conv_sc, conv_sw, length, own, alone, channels, part, HALF, SIZE)
        w_a, w_b = w_a.to(v_a.dtype), w_b.to(v_a.dtype)
        room = alone & (length < capacity)
        to_k = keys + length.to(tl.int64) * keys_ss + channel[None, :]
        to_v = values + length.to(tl.int64) * values_ss + channel[None, :]
        tl.store(to_k, n_a, mask=room)
        tl.store(to_k + HALF, n_b, mask=room)
        tl.store(to_v, w_a, mask=room)
        tl.store(to_v + HALF, w_b, mask=room)
        score = tl.sum(q_a * n_a.to(tl.float32) + q_b * n_b.to(tl.float32), 1)
        higher = tl.maximum(top, score)
        fade, gain = tl.exp2(top - higher), tl.exp2(score - higher)
        total = total * fade + gain
        o_a = o_a * fade[:, None] + gain[:, None] * w_a.to(tl.float32)
        o_b = o_b * fade[:, None] + gain[:, None] * w_b.to(tl.float32)
        top = higher
    o += row * key_heads * GROUP * D
    if filled_parts == 1:
        tl.store(o + query, (o_a / total[:, None]).to(o.dtype.element_ty), mask=asked)
        tl.store(o + query + HALF, (o_b / total[:, None]).to(o.dtype.element_ty), mask=asked)
    elif CUT:
        place = ((row * key_heads + head) * GROUP + member) * parts + part
        tl.store(partial + place[:, None] * D + channel[None, :], o_a, mask=asked)
        tl.store(partial + place[:, None] * D + channel[None, :] + HALF, o_b, mask=asked)
        tl.store(sums + 2 * place, top, mask=member < GROUP)
        tl.store(sums + 2 * place + 1, total, mask=member < GROUP)
        tl.debug_barrier()  # all warps have stored before one of them says so
        counter = arrived + row * key_heads + head
        before = tl.atomic_add(counter, 1, sem="acq_rel")
        if before == filled_parts - 1:
            tl.store(counter, 0)
            for g in tl.static_range(GROUP):
                whole = ((row * key_heads + head) * GROUP + g) * parts
                to_o = o + (head * GROUP + g) * D
                _combine(partial + whole * D, sums + 2 * whole, to_o, filled_parts, channel, inside, HALF, BP)


@triton.jit
def _approximate(angle):
    """Return cosine and sine of angles in [-pi, pi], to 2^-20: one instruction each, where exact ones branch."""
    if _INTERPRETED:
        return tl.cos(angle), tl.sin(angle)
    cos = tl.inline_asm_elementwise("cos.approx.f32 $0, $1;", "=f,f", [angle], dtype=tl.float32, is_pure=True, pack=1)
    sin = tl.inline_asm_elementwise("sin.approx.f32 $0, $1;", "=f,f", [angle], dtype=tl.float32, is_pure=True, pack=1)
    return cos, sin


@triton.jit
def _read(
    inputs, ring, weight, weight_sc, weight_sw, length, channel, inside, channels, part,
    HALF: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """Return both halves of some channels of the token, through the convolution where there is one, in float32."""
    a = tl.load(inputs + channel, mask=inside, other=0.0)
    b = tl.load(inputs + channel + HALF, mask=inside, other=0.0)
    if weight is None:
        return a.to(tl.float32), b.to(tl.float32)
    else:
        other = channel + HALF
        past_a = rings.earlier(ring, weight, weight_sc, weight_sw, None, length, channel, inside, channels, SIZE)
        past_b = rings.earlier(ring, weight, weight_sc, weight_sw, None, length, other, inside, channels, SIZE)
        if part == 0:
            rings.push(ring, length, channel, inside, channels, a, SIZE)
            rings.push(ring, length, other, inside, channels, b, SIZE)
        return rings.convolved(past_a, a), rings.convolved(past_b, b)


@triton.jit
def _normalize(a, b, weight, channel, inside, eps, D: tl.constexpr):
    """Return the RMS norm of rows ``[G, D]`` in two halves."""
    r = tl.rsqrt(tl.sum(a * a + b * b, 1) / D + eps)[:, None]
    w_a = tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)[None, :]
    w_b = tl.load(weight + channel + D // 2, mask=inside, other=0.0).to(tl.float32)[None, :]
    return a * r * w_a, b * r * w_b


@triton.jit
def _attend(q_a, q_b, k_a, k_b, v_a, v_b, filled, top, total, o_a, o_b, GROUP: tl.constexpr):
    """Take in a block of keys and values: scores in powers of two, softmax over what came so far."""
    if GROUP == 1:
        scores = tl.sum(q_a * k_a.to(tl.float32) + q_b * k_b.to(tl.float32), 1)
        scores = tl.where(filled, scores, LOWEST)
        higher = tl.maximum(top, scores)
        fade = tl.exp2(top - higher)
        weight = tl.exp2(scores - higher)
        total = total * fade + weight
        o_a = o_a * fade[:, None] + weight[:, None] * v_a.to(tl.float32)
        o_b = o_b * fade[:, None] + weight[:, None] * v_b.to(tl.float32)
    else:
        scores = tl.dot(q_a, tl.trans(k_a), input_precision="ieee")
        scores = tl.dot(q_b, tl.trans(k_b), scores, input_precision="ieee")
        scores = tl.where(filled[None, :], scores, LOWEST)
        higher = tl.maximum(top, tl.max(scores, 1))
        fade = tl.exp2(top - higher)
        weight = tl.exp2(scores - higher[:, None])
        total = total * fade + tl.sum(weight, 1)
        weight = weight.to(v_a.dtype)
        o_a = tl.dot(weight, v_a, o_a * fade[:, None], input_precision="ieee")
        o_b = tl.dot(weight, v_b, o_b * fade[:, None], input_precision="ieee")
    return higher, total, o_a, o_b


@triton.jit
def _combine(partial, sums, o, parts, channel, inside, HALF: tl.constexpr, BP: tl.constexpr):
    """Put a head's parts together, in their order, as blocks of a softmax."""
    number = tl.arange(0, BP)
    top = LOWEST
    total = 0.0
    o_a = tl.zeros(channel.shape, tl.float32)
    o_b = tl.zeros(channel.shape, tl.float32)
    for begin in tl.range(0, parts, BP, num_stages=1):
        part = begin + number
        there = part < parts
        here = there[:, None] & inside[None, :]
        # Past the first cache, which may hold what other programs have overwritten.
        place = partial + part[:, None] * (2 * HALF) + channel[None, :]
        a = tl.load(place, mask=here, other=0.0, cache_modifier=".cg")
        b = tl.load(place + HALF, mask=here, other=0.0, cache_modifier=".cg")
        own_top = tl.load(sums + 2 * part, mask=there, other=LOWEST, cache_modifier=".cg")
        own_total = tl.load(sums + 2 * part + 1, mask=there, other=0.0, cache_modifier=".cg")
        higher = tl.maximum(top, tl.max(own_top, 0))
        fade, weight = tl.exp2(top - higher), tl.exp2(own_top - higher)
        total = total * fade + tl.sum(own_total * weight, 0)
        o_a = o_a * fade + tl.sum(a * weight[:, None], 0)
        o_b = o_b * fade + tl.sum(b * weight[:, None], 0)
        top = higher
    tl.store(o + channel, (o_a / total).to(o.dtype.element_ty), mask=inside)
    tl.store(o + channel + HALF, (o_b / total).to(o.dtype.element_ty), mask=inside)
