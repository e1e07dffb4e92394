"""PyTorch's own norms and products: products in the weight's type, or that of y where it is wider (any device)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gdnbench_kernels.fused_linear.api import FusedLinear, Input, Output


def fused_linear(given: Input, weight: Tensor, wanted: Output) -> FusedLinear:
    """Compute it one call after the other; see `fused_linear.api.fused_linear`."""
    total, u, inputs = prepared(given, weight.dtype)
    wide = torch.promote_types(weight.dtype, wanted.dtype)
    parts = weight.split(wanted.mix_rows or len(weight))
    y = torch.cat([F.linear(i.to(wide), part.to(wide)) for i, part in zip(inputs, parts, strict=True)], -1)
    y = wanted.scale * activated(y, wanted.activation)
    if wanted.carry is not None:
        wanted.carry[1].copy_(wanted.carry[0])
    return FusedLinear(y.to(wanted.dtype), total, None if given.previous is None else u)


def prepared(given: Input, dtype: torch.dtype) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return the sum, its norm, and the inputs of the product, one for each range of the weight's rows."""
    total = given.x if given.add is None else (given.x + given.add).to(given.x.dtype)
    u = _normed(given, total.to(torch.promote_types(dtype, torch.float32))).to(dtype)
    if given.mix is None or given.previous is None:
        return total, u, [u]
    return total, u, [torch.lerp(u, given.previous, mix.to(dtype)) for mix in given.mix]


def activated(y: Tensor, activation: str) -> Tensor:
    """Return the activation of a product."""
    if activation == "swiglu":
        gate, up = y.chunk(2, -1)
        return F.silu(gate) * up
    return F.relu(y).square() if activation == "relu2" else y


def _normed(given: Input, u: Tensor) -> Tensor:
    if given.gate is not None and given.gate_first:
        u = u * F.silu(given.gate.to(u.dtype))
    if given.norm is not None:
        groups = u.unflatten(-1, (-1, given.group_size))
        norm = F.rms_norm if given.norm_bias is None else F.layer_norm
        groups = norm(groups, (given.group_size,), eps=given.eps)
        weight = given.norm.to(u.dtype).view(-1, given.group_size)
        bias = 0.0 if given.norm_bias is None else given.norm_bias.to(u.dtype).view(-1, given.group_size)
        u = (groups * weight + bias).flatten(-2)
    if given.gate is not None and not given.gate_first:
        u = u * F.silu(given.gate.to(u.dtype))
    return u
