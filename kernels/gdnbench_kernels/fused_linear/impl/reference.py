"""The definition, written out, in float32 or wider (any float type, any device)."""

import torch
from torch import Tensor

from gdnbench_kernels.fused_linear.api import FusedLinear, Input, Output, whole


def fused_linear(given: Input, weight: Tensor, wanted: Output) -> FusedLinear:
    """Compute it step by step; see `fused_linear.api.fused_linear`."""
    x, wide = given.x, torch.promote_types(weight.dtype, torch.float32)
    total = x if given.add is None else (x + whole(given.add)).to(x.dtype)
    u = _normed(given, total.to(wide)).to(weight.dtype)
    inputs = [u.to(wide)]
    if given.mix is not None and given.previous is not None:
        inputs = [u.to(wide) + (given.previous.to(wide) - u.to(wide)) * mix.to(wide) for mix in given.mix]
    parts = weight.to(wide).split(wanted.mix_rows or len(weight))
    products = [i.to(weight.dtype).to(wide) @ part.mT for i, part in zip(inputs, parts, strict=True)]
    y = wanted.scale * _activated(torch.cat(products, -1), wanted.activation)
    if wanted.carry is not None:
        wanted.carry[1].copy_(wanted.carry[0])
    return FusedLinear(y.to(wanted.dtype), total, None if given.previous is None else u)


def _normed(given: Input, u: Tensor) -> Tensor:
    gate = torch.ones((), dtype=u.dtype) if given.gate is None else _silu(given.gate.to(u.dtype))
    if given.gate_first:
        u = u * gate
    if given.norm is not None:
        groups = u.unflatten(-1, (-1, given.group_size))
        if given.norm_bias is not None:
            groups = groups - groups.mean(-1, keepdim=True)
        groups = groups / (groups.square().mean(-1, keepdim=True) + given.eps).sqrt()
        times = u.shape[1] // len(given.norm)
        u = groups.flatten(-2) * given.norm.to(u.dtype).repeat(times)
        if given.norm_bias is not None:
            u = u + given.norm_bias.to(u.dtype).repeat(times)
    return u if given.gate_first else u * gate


def _activated(y: Tensor, activation: str) -> Tensor:
    if activation == "swiglu":
        gate, up = y.chunk(2, -1)
        return _silu(gate) * up
    return y.clamp(min=0).square() if activation == "relu2" else y


def _silu(x: Tensor) -> Tensor:
    return x * x.sigmoid()
