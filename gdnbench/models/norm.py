"""Norms: RMS over the last dimension, and L2 of queries and keys."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdnbench.models.roles import Role, constant, declare


class RMSNorm(nn.Module):
    """``weight * x / sqrt(mean(x^2) + eps)`` over the last dimension."""

    weight: nn.Parameter

    def __init__(self, size: int, *, eps: float, row: str = "norm"):
        super().__init__()
        self.eps = eps
        declare(self, "weight", (size,), Role(row=row, fan_out=size, init=constant(1.0)))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``[..., size]``."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def l2_normalize(x: Tensor, eps: float = 1e-6) -> Tensor:
    """Return ``x / sqrt(sum(x^2) + eps)`` over the last dimension; zero stays zero."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + eps)
