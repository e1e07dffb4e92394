"""One token of RWKV-7's time mixing on a GPU: the memory read once and written once, in place.

A head that is small enough is one program's; of a larger one, programs take some columns each, and the one that
arrives last normalizes it.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.gpu.activations import sigmoid
from gdnbench_kernels.gpu.pdl import launch_dependents, overlapping, wait
from gdnbench_kernels.gpu.sums import sum_2
from gdnbench_kernels.launching import launch, on_its_device
from gdnbench_kernels.wkv7_decode.api import DECAY_BOUND, REMOVAL_EPS, Maps

WHOLE = 64  # head dims up to this are one program's
TILE = 4096  # elements of a larger head that a program takes, and rows of it are whole
FEWEST_COLUMNS = 8  # 32 bytes of float32, the least that a row takes of memory
THREAD_REGISTERS = 96  # of what a program holds: its tile in float32, its maps in half precision


class Cut(NamedTuple):
    """How the work is cut: columns of a head's memory that a program takes, and its warps."""

    columns: int
    warps: int


def cut(head_dim: int, ranks: list[int]) -> Cut:
    """Return how to cut a head whose low-rank maps have these ranks (as `Maps.ranks` says)."""
    rows = triton.next_power_of_2(head_dim)
    columns = rows if head_dim <= WHOLE else max(FEWEST_COLUMNS, TILE // rows)
    value, decay, rate, gate = ranks
    maps = rows * (decay + rate) + columns * (value + gate)
    registers = maps // 2 + rows * columns
    return Cut(columns, min(16, max(4, triton.next_power_of_2(triton.cdiv(registers, 32 * THREAD_REGISTERS)))))


@on_its_device
def wkv7_decode(
    inputs: Tensor,
    first: Tensor | None,
    memory: Tensor,
    maps: Maps,
    *,
    eps: float,
    arrived: Tensor | None,
    settled: bool,
) -> Tensor:
    """Run the kernel; see `wkv7_decode.api.wkv7_decode`."""
    batch, heads, dim, _ = memory.shape
    how = cut(dim, maps.ranks())
    tiles = triton.cdiv(dim, how.columns)
    partial = inputs.new_empty(batch * heads, 3, dim, dtype=torch.float32) if tiles > 1 else None
    if tiles > 1 and arrived is None:
        arrived = torch.zeros(batch, heads, dtype=torch.int32, device=inputs.device)
    o = inputs.new_empty(batch, heads * dim)
    value_rank, decay_rank, rate_rank, gate_rank = maps.ranks()
    launch(
        wkv7_decode_kernel,
        (tiles, heads, batch),
        inputs=inputs,
        inputs_sb=inputs.stride(0),
        first=first,
        first_sb=0 if first is None else first.stride(0),
        memory=memory,
        **vars(maps),
        partial=partial,
        arrived=arrived,
        o=o,
        heads=heads,
        eps=float(eps),
        K=dim,
        BK=triton.next_power_of_2(dim),
        BV=how.columns,
        VALUE_RANK=value_rank,
        DECAY_RANK=decay_rank,
        RATE_RANK=rate_rank,
        GATE_RANK=gate_rank,
        BOUND=DECAY_BOUND,
        REMOVAL_EPS=REMOVAL_EPS,
        EARLY=dim <= WHOLE,
        SETTLED=settled,
        num_warps=how.warps,
        **overlapping(inputs.device),
    )
    return o


@triton.jit(do_not_specialize=["heads", "eps"])
def wkv7_decode_kernel(
    inputs, inputs_sb, first, first_sb, memory,
    decay_up, decay_bias, rate_up, rate_bias, gate_up, value_up, value_bias,
    removal, replacement, bonus, norm_weight, norm_bias, partial, arrived, o, heads, eps,
    K: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    VALUE_RANK: tl.constexpr, DECAY_RANK: tl.constexpr, RATE_RANK: tl.constexpr, GATE_RANK: tl.constexpr,
    BOUND: tl.constexpr, REMOVAL_EPS: tl.constexpr, EARLY: tl.constexpr, SETTLED: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Program (tile of BV columns, head, row): all K rows of the tile, in registers."""
    launch_dependents(PDL)
    tile = tl.program_id(0)
    head = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    row = tl.arange(0, BK)
    column = tile * BV + tl.arange(0, BV)
    is_row = row < K
    is_column = column < K
    inside = is_row[:, None] & is_column[None, :]
    width = heads * K
    channel = head * K + row
    value = head * K + column

    # First of all what takes long, and what no kernel in flight writes; a large head's maps would fill the registers.
    memory += (batch * heads + head) * K * K + row[:, None] * K + column[None, :]
    if SETTLED:
        S = tl.load(memory, mask=inside, other=0.0).to(tl.float32)
    if EARLY:
        decay_map = _rows(decay_up, channel, is_row, DECAY_RANK)
        rate_map = _rows(rate_up, channel, is_row, RATE_RANK)
    gate_map = _rows(gate_up, value, is_column, GATE_RANK)
    if value_up is not None:
        value_map = _rows(value_up, value, is_column, VALUE_RANK)
        value_shift = _vector(value_bias, value, is_column)
    decay_shift = _vector(decay_bias, channel, is_row)
    rate_shift = _vector(rate_bias, channel, is_row)
    removal_factor = _vector(removal, channel, is_row)
    replacement_share = _vector(replacement, channel, is_row)
    bonus_factor = _vector(bonus, channel, is_row)
    weight = _vector(norm_weight, value, is_column)
    bias = _vector(norm_bias, value, is_column)
    wait(PDL)
    if not SETTLED:
        S = tl.load(memory, mask=inside, other=0.0).to(tl.float32)

    inputs += batch * inputs_sb
    r = _vector(inputs, channel, is_row)
    k = _vector(inputs, width + channel, is_row)
    v = _vector(inputs, 2 * width + value, is_column)
    hidden = inputs + 3 * width
    if value_up is not None:
        earlier = _vector(first + batch * first_sb, value, is_column)
        v += (earlier - v) * sigmoid(_apply(value_map, _hidden(hidden, VALUE_RANK)) + value_shift)
    hidden += VALUE_RANK
    h = 2.0 * sigmoid(2.0 * _hidden(hidden, DECAY_RANK)) - 1.0  # tanh
    if not EARLY:
        decay_map = _rows(decay_up, channel, is_row, DECAY_RANK)
    decay = tl.exp(-BOUND * sigmoid(_apply(decay_map, h) + decay_shift))
    if not EARLY:
        rate_map = _rows(rate_up, channel, is_row, RATE_RANK)
    rate = sigmoid(_apply(rate_map, _hidden(hidden + DECAY_RANK, RATE_RANK)) + rate_shift)
    gate = _apply(gate_map, sigmoid(_hidden(hidden + DECAY_RANK + RATE_RANK, GATE_RANK)))

    removed = k * removal_factor
    removed *= tl.rsqrt(tl.sum(removed * removed, 0) + REMOVAL_EPS)
    written = removed * rate
    k *= 1.0 + (rate - 1.0) * replacement_share
    # The output from the old memory, so that both sums over K are one step.
    recalled, read = sum_2(removed[:, None] * S, (r * decay)[:, None] * S, 0)
    S = decay[:, None] * S - written[:, None] * recalled[None, :] + k[:, None] * v[None, :]
    tl.store(memory, S.to(memory.dtype.element_ty), mask=inside)
    output = read - tl.sum(r * written, 0) * recalled + tl.sum(r * k, 0) * v
    own = tl.sum(r * k * bonus_factor, 0) * v

    o += batch * width
    if BV >= K:
        normed = _normalize(output, is_column, eps, K)
        result = (normed * weight + bias + own) * gate
        tl.store(o + value, result.to(o.dtype.element_ty), mask=is_column)
    else:
        partial += (batch * heads + head) * 3 * K
        tl.store(partial + column, output, mask=is_column)
        tl.store(partial + K + column, weight * gate, mask=is_column)
        tl.store(partial + 2 * K + column, (bias + own) * gate, mask=is_column)
        tl.debug_barrier()  # all warps have stored before one of them says so
        counter = arrived + batch * heads + head
        before = tl.atomic_add(counter, 1, sem="acq_rel")
        if before == tl.num_programs(0) - 1:
            tl.store(counter, 0)
            # Past the first cache, which may hold what other programs have overwritten.
            whole = tl.load(partial + row, mask=is_row, other=0.0, cache_modifier=".cg")
            factor = tl.load(partial + K + row, mask=is_row, other=0.0, cache_modifier=".cg")
            addend = tl.load(partial + 2 * K + row, mask=is_row, other=0.0, cache_modifier=".cg")
            result = _normalize(whole, is_row, eps, K) * factor + addend
            tl.store(o + channel, result.to(o.dtype.element_ty), mask=is_row)


@triton.jit
def _vector(x, place, inside):
    """Return numbers in float32, zero outside."""
    return tl.load(x + place, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _rows(up, channel, inside, RANK: tl.constexpr):
    """Return rows of a low-rank map ``[channels, RANK]``, padded to a power of two."""
    BR: tl.constexpr = triton.next_power_of_2(RANK)
    rank = tl.arange(0, BR)
    here = inside[:, None] & (rank < RANK)[None, :]
    return tl.load(up + channel[:, None] * RANK + rank[None, :], mask=here, other=0.0)


@triton.jit
def _hidden(hidden, RANK: tl.constexpr):
    """Return what a map's first half made of the input, in float32."""
    rank = tl.arange(0, triton.next_power_of_2(RANK))
    return tl.load(hidden + rank, mask=rank < RANK, other=0.0).to(tl.float32)


@triton.jit
def _apply(up, hidden):
    """Return the product of rows of a map and a vector."""
    return tl.sum(up.to(tl.float32) * hidden[None, :], 1)


@triton.jit
def _normalize(x, inside, eps, K: tl.constexpr):
    """Return ``(x - mean) / sqrt(var + eps)`` of a head."""
    centred = tl.where(inside, x - tl.sum(x, 0) / K, 0.0)
    return centred * tl.rsqrt(tl.sum(centred * centred, 0) / K + eps)
