"""PyTorch's own norm, in float32 or wider (any float type, any device)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def add_norm(x: Tensor, y: Tensor, weight: Tensor, *, eps: float) -> tuple[Tensor, Tensor]:
    """Add and call `rms_norm`; see `add_norm.api.add_norm`."""
    total = (x + y).to(x.dtype)
    wide = torch.promote_types(x.dtype, torch.float32)
    return total, F.rms_norm(total.to(wide), weight.shape, weight.to(wide), eps).to(y.dtype)
