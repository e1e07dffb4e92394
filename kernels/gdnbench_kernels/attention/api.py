"""Arguments, checks and shapes of causal softmax attention (Vaswani et al. 2017, eq. 1; grouped heads)."""

import torch
from torch import Tensor

from gdnbench_kernels import backends, checks


def attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float, impl: str = "torch") -> Tensor:
    """Return ``softmax(scale * q k^T + causal mask) v``.

    Args:
        q: queries ``[B, T, H, K]``: those of the last T of the S positions.
        k: keys ``[B, S, HKV, K]``, with S at least T, and H a multiple of HKV.
        v: values ``[B, S, HKV, V]``.
        scale: factor of the scores.
        impl: the backend, by name.

    Returns:
        The output ``[B, T, H, V]``.

    Raises:
        ValueError: a shape, dtype or device does not fit; the message names the argument.
        BackendUnavailable: the backend does not exist or cannot run here, or (`BackendRefusal`) does not serve this.
    """
    if q.ndim != 4 or k.ndim != 4:
        raise ValueError(f"q and k: expected 4 dimensions [B, T, H, D], got {list(q.shape)} and {list(k.shape)}")
    batch, time, heads, key_dim = q.shape
    positions, key_heads = k.shape[1:3]
    if batch < 1 or time < 1 or positions < time:
        raise ValueError(f"k: expected at least the {time} positions of q, got {list(k.shape)}")
    checks.multiple("heads of q", heads, key_heads, "heads of k")
    checks.shape("k", k, batch, positions, key_heads, key_dim)
    checks.shape("v", v, batch, positions, key_heads, None)
    checks.same_device_and_kind(q=q, k=k, v=v)
    checks.same_type(q=q, k=k, v=v)
    output: Tensor = backends.serving("attention", "attention", impl, q, k, v).attention(q, k, v, scale=scale)
    return output


def attention_step(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """Return the attention output ``[B, H, V]`` of one query ``[B, H, K]`` over ``k, v [B, S, HKV, ...]``."""
    group = q.shape[1] // k.shape[2]
    k, v = k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)
    weights = (scale * torch.einsum("bhk,bshk->bhs", q, k)).softmax(-1)
    return torch.einsum("bhs,bshv->bhv", weights, v)
