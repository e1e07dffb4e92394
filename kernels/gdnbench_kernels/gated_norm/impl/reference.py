"""The definition, written out, in float32 or wider (any float type, any device)."""

import torch
from torch import Tensor


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
    """Divide by the root of the mean square, weigh, gate; see `gated_norm.api.gated_norm`."""
    wide = torch.promote_types(x.dtype, torch.float32)
    u, z = x.to(wide), z.to(wide)
    gate = z * z.sigmoid()
    if skipped is not None and skip is not None:
        u = u + skip.to(wide).repeat_interleave(x.shape[-1] // len(skip)) * skipped.to(wide)
    if gate_first:
        u = u * gate
    normalized = u / (u.square().mean(-1, keepdim=True) + eps).sqrt() * weight.to(wide)
    return (normalized if gate_first else normalized * gate).to(x.dtype)
