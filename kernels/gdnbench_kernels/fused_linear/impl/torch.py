"""PyTorch's own norms and products: products in the weight's type, or that of y where it is wider (any device)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gdnbench_kernels.fused_linear.api import FusedLinear, Input, Output, whole
from gdnbench_kernels.precision import cast


def fused_linear(given: Input, weight: Tensor, wanted: Output) -> FusedLinear:
    """Compute it one call after the other; see `fused_linear.api.fused_linear`."""
    total, u, inputs = prepared(given, weight.dtype)
    wide = torch.promote_types(weight.dtype, wanted.dtype)
    parts = weight.split(wanted.mix_rows) if len(inputs) > 1 else [weight]
    products = [F.linear(cast(i, wide), cast(part, wide)) for i, part in zip(inputs, parts, strict=True)]
    y = activated(torch.cat(products, -1) if len(products) > 1 else products[0], wanted.activation)
    y = y if wanted.scale == 1 else wanted.scale * y
    if wanted.carry is not None:
        wanted.carry[1].copy_(wanted.carry[0])
    return FusedLinear(cast(y, wanted.dtype), total, None if given.previous is None else u)


def prepared(given: Input, dtype: torch.dtype) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return the sum, its norm, and the inputs of the product, one for each range of the weight's rows."""
    total = given.x if given.add is None else cast(given.x + whole(given.add), given.x.dtype)
    u = cast(_normed(given, cast(total, torch.promote_types(dtype, torch.float32))), dtype)
    if given.mix is None or given.previous is None:
        return total, u, [u]
    return total, u, [torch.lerp(u, given.previous, cast(mix, dtype)) for mix in given.mix]


def activated(y: Tensor, activation: str) -> Tensor:
    """Return the activation of a product."""
    if activation == "swiglu":
        gate, up = y.chunk(2, -1)
        return F.silu(gate) * up
    return F.relu(y).square() if activation == "relu2" else y


def _normed(given: Input, u: Tensor) -> Tensor:
    if given.gate is not None and given.gate_first:
        u = u * F.silu(cast(given.gate, u.dtype))
    if given.norm is not None:
        size, norm = given.group_size, F.rms_norm if given.norm_bias is None else F.layer_norm
        groups = norm(u.view(len(u), -1, size), (size,), eps=given.eps)
        groups = groups * cast(given.norm, u.dtype).view(-1, size)
        if given.norm_bias is not None:
            groups = groups + cast(given.norm_bias, u.dtype).view(-1, size)
        u = groups.flatten(1)
    if given.gate is not None and not given.gate_first:
        u = u * F.silu(cast(given.gate, u.dtype))
    return u
