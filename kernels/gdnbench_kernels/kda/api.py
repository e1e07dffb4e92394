"""Arguments, checks and shapes of Kimi delta attention (Kimi Linear, arXiv 2510.26692, section 3)."""

import torch
from torch import Tensor

from gdnbench_kernels import backends, checks
from gdnbench_kernels.precision import in_full_precision


def kda(
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
    """Run ``S_t = (I - beta_t k_t k_t^T) diag(e^{g_t}) S_{t-1} + beta_t k_t v_t^T``, ``o_t = scale S_t^T q_t``.

    With one decay for all channels of a head it is the gated delta rule.

    Args:
        q: queries ``[B, T, H, K]``.
        k: keys ``[B, T, H, K]``, of length 1 where beta may come near 2.
        v: values ``[B, T, H, V]``.
        g: log decay by channel ``[B, T, H, K]``, at most 0.
        beta: writing strength ``[B, T, H]``: stable in [0, 2].
        scale: factor of the output.
        initial_state: ``[B, H, K, V]``; None is zero.
        output_final_state: whether the state after the last token is returned.
        impl: the backend, by name.

    Returns:
        The output ``[B, T, H, V]`` and the final state ``[B, H, K, V]`` or None.

    Raises:
        ValueError: a shape, dtype or device does not fit; the message names the argument.
        BackendUnavailable: the backend does not exist or cannot run here, or (`BackendRefusal`) does not serve this.
    """
    if q.ndim != 4 or v.ndim != 4:
        raise ValueError(f"q and v: expected 4 dimensions [B, T, H, D], got {list(q.shape)} and {list(v.shape)}")
    batch, time, heads, key_dim = q.shape
    if batch < 1 or time < 1:
        raise ValueError(f"q: expected at least one sequence of one token, got {list(q.shape)}")
    for name, x in {"k": k, "g": g}.items():
        checks.shape(name, x, batch, time, heads, key_dim)
    checks.shape("v", v, batch, time, heads, None)
    checks.shape("beta", beta, batch, time, heads)
    if initial_state is not None:
        checks.shape("initial_state", initial_state, batch, heads, key_dim, v.shape[3])
    checks.same_device_and_kind(q=q, k=k, v=v, g=g, beta=beta, initial_state=initial_state)
    checks.same_type(q=q, k=k, v=v, g=g, beta=beta)
    backend = backends.serving("kda", "kda", impl, q, k, v, g, beta)
    output, state = backend.kda(q, k, v, g, beta, scale=scale, initial_state=initial_state)
    return output, state if output_final_state else None


def kda_step(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor, *, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Advance the recurrence of `kda` by one token; shapes are those of `kda` without T."""
    return _advance(q, k, v, g, beta, state, scale=scale)


@in_full_precision
def _advance(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor, *, scale: float
) -> tuple[Tensor, Tensor]:
    decayed = g.exp()[..., None] * state
    delta = beta[..., None] * (v - torch.einsum("bhk,bhkv->bhv", k, decayed))
    state = decayed + k[..., :, None] * delta[..., None, :]
    return scale * torch.einsum("bhk,bhkv->bhv", q, state), state
