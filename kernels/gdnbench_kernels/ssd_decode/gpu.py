"""One token of a Mamba-2 layer on a GPU, between its projections: the memory read once and written once, in place."""

import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.gated_delta.gpu import gates
from gdnbench_kernels.gpu import pdl, tiles
from gdnbench_kernels.gpu import ring as rings
from gdnbench_kernels.launching import launch, prefer_shared
from gdnbench_kernels.operators import Operator


def decode(
    x: Tensor,
    dt: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    ring: Tensor,
    memory: Tensor,
    lengths: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    D: Tensor,
    settled: bool,
) -> Tensor:
    """Advance by one token; see `ssd_decode.api.ssd_decode`. A_log, dt_bias and D are in float32."""
    batch, heads, key_dim, value_dim = memory.shape
    o = x.new_empty(batch, heads * value_dim)
    columns = tiles.columns(batch * heads, key_dim, value_dim)
    groups = (x.shape[1] - heads * value_dim) // (2 * key_dim)
    launch(
        ssd_decode_kernel,
        (triton.cdiv(value_dim, columns), heads, batch),
        x=x,
        x_sb=x.stride(0),
        dt=dt,
        dt_sb=dt.stride(0),
        dt_sh=dt.stride(1),
        weight=weight,
        weight_sc=weight.stride(0),
        weight_sw=weight.stride(1),
        bias=bias,
        ring=ring,
        memory=memory,
        lengths=lengths,
        A_log=A_log,
        dt_bias=dt_bias,
        D=D,
        o=o,
        G=groups,
        K=key_dim,
        V=value_dim,
        BK=triton.next_power_of_2(key_dim),
        BV=columns,
        GROUP=heads // groups,
        SIZE=ring.shape[1],
        SETTLED=settled,
        num_warps=tiles.warps(key_dim, columns),
        **pdl.overlapping(x.device),
    )
    return o


@prefer_shared(tiles.SHARED_PERCENT)
@triton.jit
def ssd_decode_kernel(
    x, x_sb, dt, dt_sb, dt_sh, weight, weight_sc, weight_sw, bias, ring, memory, lengths, A_log, dt_bias, D, o, G,
    K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, GROUP: tl.constexpr, SIZE: tl.constexpr,
    SETTLED: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Program (tile of BV columns, head, batch): all K rows of the tile, in registers.

    Programs of one group make its b and c each for itself; the first of them takes their inputs into the ring.
    """
    tile = tl.program_id(0)
    head = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    H = G * GROUP
    row = tl.arange(0, BK)
    column = tile * BV + tl.arange(0, BV)
    is_key = row < K
    is_value = column < V
    inside = is_key[:, None] & is_value[None, :]
    u_channel = head * V + column
    b_channel = H * V + head // GROUP * K + row
    c_channel = G * K + b_channel
    channels = H * V + 2 * G * K

    # First of all what takes longest; then all that no kernel just before this one makes.
    pdl.launch_dependents(PDL)
    if not SETTLED:
        pdl.wait(PDL)
    memory += (batch * H + head) * K * V + row[:, None] * V + column[None, :]
    S = tl.load(memory, mask=inside, other=0.0)
    tl.debug_barrier()  # or the assembler places these loads behind others, which wait for a length
    length = tl.load(lengths + batch)
    ring += batch * SIZE * channels
    b_past = rings.earlier(ring, weight, weight_sc, weight_sw, bias, length, b_channel, is_key, channels, SIZE)
    c_past = rings.earlier(ring, weight, weight_sc, weight_sw, bias, length, c_channel, is_key, channels, SIZE)
    u_past = rings.earlier(ring, weight, weight_sc, weight_sw, bias, length, u_channel, is_value, channels, SIZE)
    rate = tl.load(A_log + head)
    step_bias = tl.load(dt_bias + head)
    skip = tl.load(D + head)

    if SETTLED:
        pdl.wait(PDL)
    x += batch * x_sb
    b_in = tl.load(x + b_channel, mask=is_key, other=0.0)
    c_in = tl.load(x + c_channel, mask=is_key, other=0.0)
    u_in = tl.load(x + u_channel, mask=is_value, other=0.0)
    step = gates.softplus(tl.load(dt + batch * dt_sb + head * dt_sh).to(tl.float32) + step_bias)

    b = rings.convolved(b_past, b_in)
    c = rings.convolved(c_past, c_in)
    u = rings.convolved(u_past, u_in)
    decay = tl.exp(-tl.exp(rate) * step)
    # The output of the old state, whose sum over K waits for nothing else: S'^T c = decay S^T c + (b . c) step u.
    S = S.to(tl.float32)
    output = decay * tl.sum(c[:, None] * S, 0) + tl.sum(b * c, 0) * step * u + skip * u
    S = decay * S + b[:, None] * (step * u)[None, :]
    tl.store(memory, S.to(memory.dtype.element_ty), mask=inside)
    tl.store(o + (batch * H + head) * V + column, output.to(o.dtype.element_ty), mask=is_value)

    first = is_key & (tile == 0) & (head % GROUP == 0)
    rings.push(ring, length, b_channel, first, channels, b_in, SIZE)
    rings.push(ring, length, c_channel, first, channels, c_in, SIZE)
    rings.push(ring, length, u_channel, is_value, channels, u_in, SIZE)


def _fake(
    x: Tensor, dt: Tensor, weight: Tensor, bias: Tensor | None, ring: Tensor, memory: Tensor, *rest: object
) -> Tensor:
    return x.new_empty(memory.shape[0], memory.shape[1] * memory.shape[3])


ssd_decode = Operator("ssd_decode", decode, fake=_fake, mutates=("ring", "memory"))  # has no gradient
