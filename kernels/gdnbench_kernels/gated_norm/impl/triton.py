"""Our own kernels, as operators of PyTorch: one pass over memory forward, one backward."""

from typing import Any

from torch import Tensor

from gdnbench_kernels.gated_norm import gpu
from gdnbench_kernels.gpu import hardware
from gdnbench_kernels.operators import Operator

VALUE_DIMS, DIM_MULTIPLE = (16, 512), 8

why_unavailable = hardware.why_unavailable


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


def _forward_fake(x: Tensor, z: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return gpu.results(x)


def _backward_fake(dy: Tensor, x: Tensor, z: Tensor, weight: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), z.new_empty(z.shape), weight.new_empty(weight.shape)


def _save(ctx: Any, arguments: tuple[Any, ...], results: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(results[1])
    ctx.save_for_backward(*arguments[:3], results[1])


def _differentiate(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    dx, dz, d_weight = _backward(dy, *ctx.saved_tensors)
    return dx, dz, d_weight, None


_backward = Operator("gated_norm_backward", gpu.backward, fake=_backward_fake)
_forward = Operator("gated_norm", gpu.forward, fake=_forward_fake, save=_save, differentiate=_differentiate)
