"""The definition: PyTorch's cross_entropy of whole logits, in float32 or wider (any float type, any device)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gdnbench_kernels.linear_cross_entropy.api import IGNORED


def refuses(x: Tensor, weight: Tensor, targets: Tensor, *, chunk_size: int | None) -> str | None:
    """Return that there are no chunks to choose."""
    return None if chunk_size is None else f"chunk_size: {chunk_size}, wants None: all logits exist at once"


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, *, scale: float, chunk_size: int | None) -> Tensor:
    """Return the sum of losses; see `linear_cross_entropy.api.linear_cross_entropy`."""
    return linear_cross_entropy_scores(x, weight, targets, scale=scale, chunk_size=chunk_size).sum()


def linear_cross_entropy_scores(
    x: Tensor, weight: Tensor, targets: Tensor, *, scale: float, chunk_size: int | None
) -> Tensor:
    """Return losses by token; see `linear_cross_entropy.api.linear_cross_entropy_scores`."""
    wide = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        logits = scale * (x.to(wide) @ weight.to(wide).T)
        return F.cross_entropy(logits, targets, reduction="none", ignore_index=IGNORED)
