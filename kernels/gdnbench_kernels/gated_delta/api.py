"""Arguments, checks and shapes of the gated delta rule (Yang, Kautz, Hatamizadeh: Gated Delta Networks, eq. 10)."""

import torch
from torch import Tensor

from gdnbench_kernels import backends, checks


def gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    scale: float = 1.0,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    impl: str = "torch",
) -> tuple[Tensor, Tensor | None]:
    """Run ``S_t = e^{g_t} (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T``, ``o_t = scale * S_t^T q_t``.

    Args:
        q: queries ``[B, T, H, K]``, normalized by the caller where wanted.
        k: keys ``[B, T, H, K]``, of norm at most 1 if the recurrence is to be stable.
        v: values ``[B, T, HV, V]``; HV is a multiple of H, and value head ``i`` reads key head ``i // (HV // H)``.
        g: log decay ``[B, T, HV]``, at most 0.
        beta: writing strength ``[B, T, HV]`` in ``[0, 2]``.
        scale: factor of the output.
        initial_state: ``[B, HV, K, V]``; None is zero.
        output_final_state: whether the state after the last token is returned.
        impl: the backend, by name (`gdnbench_kernels.backends.names("gated_delta")`).

    Returns:
        The output ``[B, T, HV, V]`` and the final state ``[B, HV, K, V]`` or None.

    Raises:
        ValueError: a shape, dtype or device does not fit; the message names the argument.
        BackendUnavailable: the backend does not exist or cannot run here.
    """
    _check(q, k, v, g, beta, initial_state)
    run = backends.load("gated_delta", impl).gated_delta_rule
    output, state = run(q, k, v, g, beta, scale=scale, initial_state=initial_state)
    return output, state if output_final_state else None


def gated_delta_rule_step(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor, *, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Advance the recurrence of `gated_delta_rule` by one token.

    Shapes are those of `gated_delta_rule` without T: ``q, k [B, H, K]``, ``v [B, HV, V]``, ``g, beta [B, HV]``,
    ``state [B, HV, K, V]``. Returns the output ``[B, HV, V]`` and the new state, leaving ``state`` as it was.
    """
    group = v.shape[1] // q.shape[1]
    q, k = q.repeat_interleave(group, 1), k.repeat_interleave(group, 1)
    decayed = g.exp()[..., None, None] * state
    recalled = torch.einsum("bhk,bhkv->bhv", k, decayed)
    delta = beta[..., None] * (v - recalled)
    state = decayed + k[..., :, None] * delta[..., None, :]
    return scale * torch.einsum("bhk,bhkv->bhv", q, state), state


def _check(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, initial_state: Tensor | None) -> None:
    if q.ndim != 4 or v.ndim != 4:
        raise ValueError(f"q and v: expected 4 dimensions [B, T, H, D], got {list(q.shape)} and {list(v.shape)}")
    batch, time, heads, key_dim = q.shape
    value_heads, value_dim = v.shape[2:]
    if batch < 1 or time < 1:
        raise ValueError(f"q: expected at least one sequence of one token, got {list(q.shape)}")
    checks.multiple("value heads of v", value_heads, heads, "heads of q")
    checks.shape("k", k, batch, time, heads, key_dim)
    checks.shape("v", v, batch, time, value_heads, value_dim)
    checks.shape("g", g, batch, time, value_heads)
    checks.shape("beta", beta, batch, time, value_heads)
    if initial_state is not None:
        checks.shape("initial_state", initial_state, batch, value_heads, key_dim, value_dim)
    checks.same_device_and_kind(q=q, k=k, v=v, g=g, beta=beta, initial_state=initial_state)
    checks.same_type(q=q, k=k)
