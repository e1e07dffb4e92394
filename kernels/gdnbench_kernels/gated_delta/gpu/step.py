"""The decode step on a GPU: one token, the state read once and written once, in place."""

import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.gated_delta.gpu import gates
from gdnbench_kernels.gpu import tiles
from gdnbench_kernels.gpu.sums import sum_2, sum_3
from gdnbench_kernels.launching import launch
from gdnbench_kernels.operators import Operator


def step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    state: Tensor,
    A_log: Tensor | None,
    dt_bias: Tensor | None,
    scale: float,
    gate_scale: float,
    beta_range: float | None,
    normalize_qk: bool,
) -> Tensor:
    """Advance ``state`` by one token in place and return the output; see `gated_delta.api.gated_delta_rule_step`.

    Args:
        q: ``[B, H, K]``, any strides but a contiguous last dim, as k and v.
        k: ``[B, H, K]``.
        v: ``[B, HV, V]``.
        g: log decay ``[B, HV]``, any strides; with ``A_log`` what it is made from (`gates.log_decay`).
        beta: ``[B, HV]``, any strides; with ``beta_range`` its logit (`gates.writing_strength`).
        state: ``[B, HV, K, V]``, float32 or half, each ``[K, V]`` contiguous.
        A_log: float32 ``[HV]``, with ``dt_bias`` or neither.
        dt_bias: float32 ``[HV]``.
        scale: factor of the output.
        gate_scale: multiplies g and beta before their gates.
        beta_range: 1 or 2, the largest beta; None where beta is given ready.
        normalize_qk: whether q and k are divided by ``sqrt(sum(x^2) + 1e-6)``.

    Returns:
        ``[B, HV, V]``, in the type of v.
    """
    batch, heads, key_dim = q.shape
    value_heads, value_dim = v.shape[1:]
    if state.stride()[2:] != (value_dim, 1):
        raise ValueError(f"state: expected contiguous [K, V], got strides {state.stride()}")
    o = v.new_empty(v.shape)
    columns = tiles.columns(batch * value_heads, key_dim, value_dim)
    launch(
        step_kernel,
        (batch * value_heads * triton.cdiv(value_dim, columns),),
        q=q,
        k=k,
        v=v,
        g=g,
        beta=beta,
        A_log=A_log,
        dt_bias=dt_bias,
        state=state,
        o=o,
        **_strides(q=q, k=k, v=v, g=g, beta=beta, state=state),
        H=heads,
        HV=value_heads,
        scale=float(scale),
        gate_scale=float(gate_scale),
        beta_range=beta_range,
        K=key_dim,
        V=value_dim,
        BK=triton.next_power_of_2(key_dim),
        BV=columns,
        NORMALIZE=normalize_qk,
        num_warps=tiles.warps(key_dim, columns),
    )
    return o


def _strides(**tensors: Tensor) -> dict[str, int]:
    return {f"{name}_s{letter}": x.stride(dim) for name, x in tensors.items() for dim, letter in enumerate("bh")}


@triton.jit(do_not_specialize=["scale", "gate_scale"])
def step_kernel(
    q, k, v, g, beta, A_log, dt_bias, state, o,
    q_sb, q_sh, k_sb, k_sh, v_sb, v_sh, g_sb, g_sh, beta_sb, beta_sh, state_sb, state_sh,
    H, HV, scale, gate_scale, beta_range,
    K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, NORMALIZE: tl.constexpr,
):  # fmt: skip
    """Program (batch, value head, tile of BV columns): all K rows of the tile, in registers."""
    TILES: tl.constexpr = tl.cdiv(V, BV)
    tile = tl.program_id(0) % TILES
    batch = (tl.program_id(0) // TILES // HV).to(tl.int64)
    head = tl.program_id(0) // TILES % HV
    key_head = head // (HV // H)
    row = tl.arange(0, BK)
    column = tile * BV + tl.arange(0, BV)
    inside = (row < K)[:, None] & (column < V)[None, :]

    # First of all, for this is what takes long.
    state += batch * state_sb + head * state_sh + row[:, None] * V + column[None, :]
    S = tl.load(state, mask=inside, other=0.0).to(tl.float32)
    q_row = tl.load(q + batch * q_sb + key_head * q_sh + row, mask=row < K, other=0.0).to(tl.float32)
    k_row = tl.load(k + batch * k_sb + key_head * k_sh + row, mask=row < K, other=0.0).to(tl.float32)
    value = tl.load(v + batch * v_sb + head * v_sh + column, mask=column < V, other=0.0).to(tl.float32)
    decay = tl.load(g + batch * g_sb + head * g_sh).to(tl.float32)
    strength = tl.load(beta + batch * beta_sb + head * beta_sh).to(tl.float32)
    if A_log is not None:
        decay = gates.log_decay(decay, tl.load(A_log + head), tl.load(dt_bias + head), gate_scale)
    decay = tl.exp(decay)
    strength = gates.writing_strength(strength, gate_scale, beta_range)
    S, output = advance(S, q_row, k_row, value, decay, strength, scale, NORMALIZE)
    tl.store(state, S.to(state.dtype.element_ty), mask=inside)
    tl.store(o + (batch * HV + head) * V + column, output.to(o.dtype.element_ty), mask=column < V)


@triton.jit
def advance(S, q, k, value, decay, strength, scale, NORMALIZE: tl.constexpr):
    """Return the next state ``[BK, BV]`` and the output ``[BV]``; q and k ``[BK]`` raw if they are to be normalized.

    The output is of the old state, ``S'^T q = decay S^T q + (k . q) delta``, and norms are factors of sums: so that all
    sums over K are two, that wait for nothing but q and k.
    """
    recalled, read = sum_2(k[:, None] * S, q[:, None] * S, 0)
    qq, kk, qk = sum_3(q * q, k * k, q * k, 0)
    if NORMALIZE:
        of_k = tl.rsqrt(kk + gates.L2_EPS)
        scale *= tl.rsqrt(qq + gates.L2_EPS)
    else:
        of_k = 1.0
    delta = strength * (value - decay * of_k * recalled)
    S = decay * S + (of_k * k)[:, None] * delta[None, :]
    return S, scale * (decay * read + of_k * qk * delta)


def _fake(q: Tensor, k: Tensor, v: Tensor, *rest: object) -> Tensor:
    return v.new_empty(v.shape)


gated_delta_step = Operator("gated_delta_step", step, fake=_fake, mutates=("state",))  # has no gradient
