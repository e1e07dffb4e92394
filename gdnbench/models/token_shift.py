"""RWKV's token shift: each position is mixed with the one before it, by a curve over the channels."""

import torch
from torch import Tensor
from torch.nn import functional as F


def shift(x: Tensor, last: Tensor | None = None) -> Tensor:
    """Return ``x [B, T, D]`` moved one step later; position 0 gets ``last [B, D]``, or zeros."""
    return F.pad(x, (0, 0, 1, -1)) if last is None else torch.cat([last[:, None], x[:, :-1]], 1)


def mix_curve(width: int, power: float) -> Tensor:
    """Return RWKV's initial mixing ``1 - (n / D)^power`` over channels n; a function of n / D only."""
    return 1 - (torch.arange(width) / width) ** power
