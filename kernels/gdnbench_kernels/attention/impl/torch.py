"""PyTorch's scaled_dot_product_attention, which picks its own kernel for the device."""

import torch
from torch import Tensor
from torch.nn import functional as F


def attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """Call SDPA with its causal flag, or with a mask where keys precede the queries (one query alone needs none)."""
    time, positions = q.shape[1], k.shape[1]
    mask = None
    if 1 < time < positions:
        mask = torch.ones(time, positions, dtype=torch.bool, device=q.device).tril(positions - time)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    output = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=positions == time, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return output.transpose(1, 2)
