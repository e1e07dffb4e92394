"""Norms: RMS over the last dimension, the same under a gate, layer norm, and L2 of queries and keys."""

from typing import Any, Literal

import torch
from gdnbench_kernels.add_norm import add_norm
from gdnbench_kernels.gated_norm import gated_norm
from torch import Tensor, nn
from torch.nn import functional as F

from gdnbench.models.apart import computed_apart
from gdnbench.models.roles import Role, constant, declare


class RMSNorm(nn.Module):
    """``weight * x / sqrt(mean(x^2) + eps)`` over the last dimension, in float32 or wider, in the type of x again."""

    weight: nn.Parameter

    def __init__(self, size: int, *, eps: float, row: str = "norm"):
        super().__init__()
        self.eps = eps
        declare(self, "weight", (size,), Role(row=row, fan_out=size, init=constant(1.0)))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``[..., size]``."""
        wide = torch.promote_types(x.dtype, torch.float32)
        return F.rms_norm(x.to(wide), self.weight.shape, self.weight.to(wide), self.eps).to(x.dtype)

    def parameter_count(self) -> int:
        """A weight a channel."""
        return self.weight.numel()


class LayerNorm(nn.Module):
    """``weight * (x - mean(x)) / sqrt(var(x) + eps) + bias`` over the last dimension, computed as `RMSNorm` is."""

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, size: int, *, eps: float):
        super().__init__()
        self.eps = eps
        declare(self, "weight", (size,), Role(row="norm", fan_out=size, init=constant(1.0)))
        declare(self, "bias", (size,), Role(row="bias", fan_out=size, init=constant(0.0)))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``[..., size]``."""
        wide = torch.promote_types(x.dtype, torch.float32)
        weight, bias = self.weight.to(wide), self.bias.to(wide)
        return F.layer_norm(x.to(wide), weight.shape, weight, bias, self.eps).to(x.dtype)

    def parameter_count(self) -> int:
        """A weight and a bias a channel."""
        return self.weight.numel() + self.bias.numel()


def build_norm(kind: Literal["rms", "layer"], size: int, *, eps: float) -> RMSNorm | LayerNorm:
    """Return the norm of the residual stream that is called ``kind``."""
    return RMSNorm(size, eps=eps) if kind == "rms" else LayerNorm(size, eps=eps)


def add_and_norm(norm: RMSNorm | LayerNorm, x: Tensor, y: Tensor | None, *, impl: str) -> tuple[Tensor, Tensor]:
    """Return ``x + y`` and its norm, for a residual stream and what is added to it (or nothing)."""
    if y is None:
        return x, norm(x)
    if computed_apart() or isinstance(norm, LayerNorm):
        x = x + y
        return x, norm(x)
    return add_norm(x, y, norm.weight, eps=norm.eps, impl=impl)


def as_arguments(norm: RMSNorm | LayerNorm) -> dict[str, Any]:
    """Return a norm as arguments of `gdnbench_kernels.fused_linear.fused_linear`."""
    return {"norm": norm.weight, "norm_bias": norm.bias if isinstance(norm, LayerNorm) else None, "eps": norm.eps}


def norm_and_gate(norm: RMSNorm, x: Tensor, gate: Tensor, *, impl: str) -> Tensor:
    """Return ``norm(x) * silu(gate)`` for ``x [..., size]`` and a gate of its shape."""
    if computed_apart():
        return norm(x) * F.silu(gate)
    return gated_norm(x, gate, norm.weight, eps=norm.eps, impl=impl)


def gate_and_norm(norm: RMSNorm, x: Tensor, gate: Tensor, skipped: Tensor, skip: Tensor, *, impl: str) -> Tensor:
    """Return ``norm((x + skip skipped) * silu(gate))``, all heads in one norm.

    Args:
        norm: of ``H P`` channels.
        x: ``[..., H, P]``.
        gate: ``[..., H P]``.
        skipped: what goes around, of the shape of ``x``.
        skip: by how much ``[H]``.
        impl: the backend of `gdnbench_kernels.gated_norm`.

    Returns:
        ``[..., H P]``.
    """
    if computed_apart():
        return norm((x + skip[:, None] * skipped).flatten(-2) * F.silu(gate))
    skips = {"skipped": skipped.flatten(-2), "skip": skip}
    return gated_norm(x.flatten(-2), gate, norm.weight, eps=norm.eps, gate_first=True, **skips, impl=impl)


def l2_normalize(x: Tensor, eps: float = 1e-6) -> Tensor:
    """Return ``x / sqrt(sum(x^2) + eps)`` over the last dimension; zero stays zero."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + eps)
