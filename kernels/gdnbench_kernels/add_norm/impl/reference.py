"""The definition, written out, in float32 or wider (any float type, any device)."""

import torch
from torch import Tensor


def add_norm(x: Tensor, y: Tensor, weight: Tensor, *, eps: float) -> tuple[Tensor, Tensor]:
    """Add, divide by the root of the mean square, weigh; see `add_norm.api.add_norm`."""
    total = (x + y).to(x.dtype)
    wide = total.to(torch.promote_types(x.dtype, torch.float32))
    normalized = wide / (wide.square().mean(-1, keepdim=True) + eps).sqrt()
    return total, (normalized * weight.to(wide.dtype)).to(y.dtype)
