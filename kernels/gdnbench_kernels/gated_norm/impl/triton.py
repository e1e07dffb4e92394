"""Our own kernels, as operators of PyTorch: one pass over memory forward, one backward."""

from typing import Any

import torch
from torch import Tensor

from gdnbench_kernels.gated_norm import gpu
from gdnbench_kernels.gpu import hardware

VALUE_DIMS, DIM_MULTIPLE = (16, 512), 8

why_unavailable = hardware.why_unavailable

_forward = torch.library.custom_op("gdnbench::gated_norm", gpu.forward, mutates_args=())
_backward = torch.library.custom_op("gdnbench::gated_norm_backward", gpu.backward, mutates_args=())


def refuses(x: Tensor, z: Tensor, weight: Tensor) -> str | None:
    """Return what the kernels do not serve: float64, another device than a GPU, rows out of range."""
    low, high = VALUE_DIMS
    size = x.shape[-1]
    if not low <= size <= high or size % DIM_MULTIPLE:
        return f"x: V is {size}, wants a multiple of {DIM_MULTIPLE} from {low} to {high}"
    return hardware.beyond_types(x=x, z=z, weight=weight)


def gated_norm(x: Tensor, z: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    """Run the kernels; see `gated_norm.api.gated_norm`."""
    y, _ = _forward(x, z, weight, eps)
    return y


@_forward.register_fake
def _(x: Tensor, z: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return gpu.results(x)


@_backward.register_fake
def _(dy: Tensor, x: Tensor, z: Tensor, weight: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), z.new_empty(z.shape), weight.new_empty(weight.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs[:3], output[1])


def _differentiate(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    dx, dz, d_weight = _backward(dy, *ctx.saved_tensors)
    return dx, dz, d_weight, None


_forward.register_autograd(_differentiate, setup_context=_save)
