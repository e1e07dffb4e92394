"""PyTorch's own norm and SiLU, in float32 or wider (any float type, any device)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def gated_norm(
    x: Tensor,
    z: Tensor,
    weight: Tensor,
    *,
    eps: float,
    gate_first: bool = False,
    skipped: Tensor | None = None,
    skip: Tensor | None = None,
) -> Tensor:
    """Call `rms_norm` and `silu`; see `gated_norm.api.gated_norm`."""
    wide = torch.promote_types(x.dtype, torch.float32)
    u, gate = x.to(wide), F.silu(z.to(wide))
    if skipped is not None and skip is not None:
        heads = len(skip), -1
        u = u + (skip.to(wide)[:, None] * skipped.to(wide).unflatten(-1, heads)).flatten(-2)
    if gate_first:
        u = u * gate
    normalized = F.rms_norm(u, weight.shape, weight.to(wide), eps)
    return (normalized if gate_first else normalized * gate).to(x.dtype)
