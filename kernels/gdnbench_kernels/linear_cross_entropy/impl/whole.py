"""PyTorch's linear and cross_entropy, one after the other, as models usually have them: the logits exist whole."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gdnbench_kernels.linear_cross_entropy.api import IGNORED
from gdnbench_kernels.linear_cross_entropy.impl.reference import refuses

__all__ = ["linear_cross_entropy", "linear_cross_entropy_scores", "refuses"]


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, *, scale: float, chunk_size: int | None) -> Tensor:
    """Return the sum of losses; see `linear_cross_entropy.api.linear_cross_entropy`."""
    return F.cross_entropy(_logits(x, weight, scale), targets, reduction="sum", ignore_index=IGNORED)


def linear_cross_entropy_scores(
    x: Tensor, weight: Tensor, targets: Tensor, *, scale: float, chunk_size: int | None
) -> Tensor:
    """Return losses by token; see `linear_cross_entropy.api.linear_cross_entropy_scores`."""
    return F.cross_entropy(_logits(x, weight, scale), targets, reduction="none", ignore_index=IGNORED)


def _logits(x: Tensor, weight: Tensor, scale: float) -> Tensor:
    x = x if scale == 1 else x * scale  # rather than so many logits
    return F.linear(x, weight.to(x.dtype)).to(torch.promote_types(x.dtype, torch.float32))
