"""What becomes of one token's projections before it attends, in plain PyTorch."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gdnbench_kernels.short_convolution.ring import convolve_next


def queries_keys_values(
    inputs: Tensor,
    lengths: Tensor,
    frequencies: Tensor,
    *,
    heads: int,
    key_heads: int,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    eps: float,
    conv_weight: Tensor | None,
    ring: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return q ``[B, H, D]``, k and v ``[B, HKV, D]`` in float32 or wider; see `attention_decode.api`."""
    dim = 2 * len(frequencies)
    x = inputs[:, : (heads + 2 * key_heads) * dim]
    wide = torch.promote_types(x.dtype, torch.float32)
    if conv_weight is not None and ring is not None:
        x = convolve_next(x, conv_weight, None, ring, lengths)
    x = x.to(wide)
    q, k, v = x.unflatten(1, (-1, dim)).split([heads, key_heads, key_heads], 1)
    if q_norm is not None and k_norm is not None:
        q, k = (F.rms_norm(part, (dim,), weight.to(wide), eps) for part, weight in ((q, q_norm), (k, k_norm)))
    turns = lengths[:, None].double() * frequencies
    angles = 2 * torch.pi * (turns - turns.floor())
    cos, sin = (part.to(wide)[:, None] for part in (angles.cos(), angles.sin()))
    return _rotate(q, cos, sin), _rotate(k, cos, sin), v


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
