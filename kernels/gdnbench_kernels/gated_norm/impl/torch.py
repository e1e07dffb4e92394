"""PyTorch's own norm and SiLU, in float32 or wider (any float type, any device)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def gated_norm(x: Tensor, z: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    """Call `rms_norm` and `silu`; see `gated_norm.api.gated_norm`."""
    wide = torch.promote_types(x.dtype, torch.float32)
    normalized = F.rms_norm(x.to(wide), weight.shape, weight.to(wide), eps)
    return (normalized * F.silu(z.to(wide))).to(x.dtype)
