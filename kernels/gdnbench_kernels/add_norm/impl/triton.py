"""Our own kernels, as operators of PyTorch: one pass over memory forward, one backward.

For the backward pass the norm is kept, which what reads it keeps anyway, and not the sum: of D numbers a row, none is
kept twice. The norm is divided by its weight again; so that nothing is lost, a weight of 0 is taken for 2^-60, which
bfloat16 and float32 tell from 0, and float16 does not: there, gradients behind such a weight are 0.
"""

from typing import Any

import torch
from torch import Tensor

from gdnbench_kernels.add_norm import gpu
from gdnbench_kernels.gpu import hardware
from gdnbench_kernels.operators import Operator

WIDTHS, WIDTH_MULTIPLE = (16, 8192), 8

why_unavailable = hardware.why_unavailable


def refuses(x: Tensor, y: Tensor, weight: Tensor) -> str | None:
    """Return what the kernels do not serve: float64, another device than a GPU, rows out of range."""
    low, high = WIDTHS
    size = x.shape[-1]
    if not low <= size <= high or size % WIDTH_MULTIPLE:
        return f"x: D is {size}, wants a multiple of {WIDTH_MULTIPLE} from {low} to {high}"
    if x.dtype not in (y.dtype, torch.float32):
        return f"x: {x.dtype}, wants {y.dtype} as y, or torch.float32"
    return hardware.beyond_types(x=x, y=y, weight=weight)


def add_norm(x: Tensor, y: Tensor, weight: Tensor, *, eps: float) -> tuple[Tensor, Tensor]:
    """Run the kernels; see `add_norm.api.add_norm`."""
    total, normed, _ = _forward(x, y, weight, eps)
    return total, normed


def _forward_fake(x: Tensor, y: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return gpu.results(x, y)


def _backward_fake(
    d_normed: Tensor, normed: Tensor, weight: Tensor, rstd: Tensor, d_total: Tensor | None, single: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dx, dy = gpu.gradients(normed, single)
    return dx, dy, weight.new_empty(weight.shape)


def _save(ctx: Any, arguments: tuple[Any, ...], results: tuple[Tensor, Tensor, Tensor]) -> None:
    x, _, weight, _ = arguments
    _, normed, rstd = results
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(rstd)
    ctx.save_for_backward(normed, weight, rstd)
    ctx.single = x.dtype == torch.float32


def _differentiate(ctx: Any, d_total: Tensor | None, d_normed: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    normed, weight, rstd = ctx.saved_tensors
    d_normed = torch.zeros_like(normed) if d_normed is None else d_normed
    dx, dy, d_weight = _backward(d_normed, normed, weight, rstd, d_total, ctx.single)
    return dx, dy if dy.numel() else dx, d_weight, None


_backward = Operator("add_norm_backward", gpu.backward, fake=_backward_fake)
_forward = Operator("add_norm", gpu.forward, fake=_forward_fake, save=_save, differentiate=_differentiate)
