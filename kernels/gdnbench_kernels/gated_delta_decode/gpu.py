"""One token of a GDN layer on a GPU, between its projections: the memory read once and written once, in place."""

import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.gated_delta.gpu import gates
from gdnbench_kernels.gated_delta.gpu.step import advance
from gdnbench_kernels.gated_delta_decode.sizes import key_heads
from gdnbench_kernels.gpu import pdl, tiles
from gdnbench_kernels.gpu import ring as rings
from gdnbench_kernels.gpu.activations import sigmoid
from gdnbench_kernels.launching import launch, prefer_shared
from gdnbench_kernels.operators import Operator


def decode(
    x: Tensor,
    g: Tensor,
    beta: Tensor,
    weight: Tensor,
    ring: Tensor,
    memory: Tensor,
    lengths: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    scale: float,
    gate_scale: float,
    beta_range: float,
    settled: bool,
) -> Tensor:
    """Advance by one token; see `gated_delta_decode.api.gated_delta_decode`. A_log and dt_bias are in float32."""
    batch, value_heads, key_dim, value_dim = memory.shape
    o = x.new_empty(batch, value_heads * value_dim)
    columns = tiles.columns(batch * value_heads, key_dim, value_dim)
    heads = key_heads(x, memory)
    launch(
        gated_delta_decode_kernel,
        (triton.cdiv(value_dim, columns), value_heads, batch),
        x=x,
        x_sb=x.stride(0),
        g=g,
        g_sb=g.stride(0),
        g_sh=g.stride(1),
        beta=beta,
        beta_sb=beta.stride(0),
        beta_sh=beta.stride(1),
        weight=weight,
        weight_sc=weight.stride(0),
        weight_sw=weight.stride(1),
        ring=ring,
        memory=memory,
        lengths=lengths,
        A_log=A_log,
        dt_bias=dt_bias,
        o=o,
        H=heads,
        scale=float(scale),
        gate_scale=float(gate_scale),
        beta_range=float(beta_range),
        K=key_dim,
        V=value_dim,
        BK=triton.next_power_of_2(key_dim),
        BV=columns,
        GROUP=value_heads // heads,
        SIZE=ring.shape[1],
        CONVOLVED_VALUES=len(weight) == x.shape[1],
        SETTLED=settled,
        num_warps=tiles.warps(key_dim, columns),
        **pdl.overlapping(x.device),
    )
    return o


@prefer_shared(tiles.SHARED_PERCENT)
@triton.jit(do_not_specialize=["scale", "gate_scale", "beta_range"])
def gated_delta_decode_kernel(
    x, x_sb, g, g_sb, g_sh, beta, beta_sb, beta_sh, weight, weight_sc, weight_sw, ring, memory, lengths,
    A_log, dt_bias, o, H, scale, gate_scale, beta_range,
    K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, GROUP: tl.constexpr, SIZE: tl.constexpr,
    CONVOLVED_VALUES: tl.constexpr, SETTLED: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Program (tile of BV columns, value head, batch): all K rows of the tile, in registers.

    Programs of one key head make its q and k each for itself; the first of them takes their inputs into the ring.
    """
    tile = tl.program_id(0)
    head = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    HV = H * GROUP
    key_head = head // GROUP
    row = tl.arange(0, BK)
    column = tile * BV + tl.arange(0, BV)
    is_key = row < K
    is_value = column < V
    inside = is_key[:, None] & is_value[None, :]
    q_channel = key_head * K + row
    k_channel = H * K + q_channel
    v_channel = 2 * H * K + head * V + column
    channels = 2 * H * K
    if CONVOLVED_VALUES:
        channels += HV * V

    # First of all what takes longest; then all that no kernel just before this one makes.
    pdl.launch_dependents(PDL)
    if not SETTLED:
        pdl.wait(PDL)
    memory += (batch * HV + head) * K * V + row[:, None] * V + column[None, :]
    S = tl.load(memory, mask=inside, other=0.0)
    tl.debug_barrier()  # or the assembler places these loads behind others, which wait for a length
    length = tl.load(lengths + batch)
    ring += batch * SIZE * channels
    q_past = rings.earlier(ring, weight, weight_sc, weight_sw, None, length, q_channel, is_key, channels, SIZE)
    k_past = rings.earlier(ring, weight, weight_sc, weight_sw, None, length, k_channel, is_key, channels, SIZE)
    if CONVOLVED_VALUES:
        v_past = rings.earlier(ring, weight, weight_sc, weight_sw, None, length, v_channel, is_value, channels, SIZE)
    rate = tl.load(A_log + head)
    bias = tl.load(dt_bias + head)

    if SETTLED:
        pdl.wait(PDL)
    x += batch * x_sb
    q_in = tl.load(x + q_channel, mask=is_key, other=0.0)
    k_in = tl.load(x + k_channel, mask=is_key, other=0.0)
    v_in = tl.load(x + v_channel, mask=is_value, other=0.0)
    decay = tl.load(g + batch * g_sb + head * g_sh).to(tl.float32)
    strength = tl.load(beta + batch * beta_sb + head * beta_sh).to(tl.float32)

    q = rings.convolved(q_past, q_in)
    k = rings.convolved(k_past, k_in)
    if CONVOLVED_VALUES:
        value = rings.convolved(v_past, v_in)
    else:
        value = v_in.to(tl.float32)
        value *= sigmoid(value)
    decay = tl.exp(gates.log_decay(decay, rate, bias, gate_scale))
    strength = gates.writing_strength(strength, gate_scale, beta_range)
    S, output = advance(S.to(tl.float32), q, k, value, decay, strength, scale, True)
    tl.store(memory, S.to(memory.dtype.element_ty), mask=inside)
    tl.store(o + (batch * HV + head) * V + column, output.to(o.dtype.element_ty), mask=is_value)

    first = is_key & (tile == 0) & (head % GROUP == 0)
    rings.push(ring, length, q_channel, first, channels, q_in, SIZE)
    rings.push(ring, length, k_channel, first, channels, k_in, SIZE)
    if CONVOLVED_VALUES:
        rings.push(ring, length, v_channel, is_value, channels, v_in, SIZE)


def _fake(x: Tensor, g: Tensor, beta: Tensor, weight: Tensor, ring: Tensor, memory: Tensor, *rest: object) -> Tensor:
    return x.new_empty(memory.shape[0], memory.shape[1] * memory.shape[3])


gated_delta_decode = Operator("gated_delta_decode", decode, fake=_fake, mutates=("ring", "memory"))  # has no gradient
