"""The definition, written out, in float32 or wider (any float type, any device)."""

import torch
from torch import Tensor


def gated_norm(x: Tensor, z: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    """Divide by the root of the mean square, weigh, gate; see `gated_norm.api.gated_norm`."""
    wide = torch.promote_types(x.dtype, torch.float32)
    u, z = x.to(wide), z.to(wide)
    normalized = u / (u.square().mean(-1, keepdim=True) + eps).sqrt()
    return (normalized * weight.to(wide) * z * z.sigmoid()).to(x.dtype)
