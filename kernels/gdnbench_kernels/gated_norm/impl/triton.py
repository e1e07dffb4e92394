"""Our own kernels, as operators of PyTorch: one pass over memory forward, one backward."""

from typing import Any

from torch import Tensor

from gdnbench_kernels.gated_norm import gpu
from gdnbench_kernels.gpu import hardware
from gdnbench_kernels.operators import Operator

VALUE_DIMS, DIM_MULTIPLE = (16, 8192), 8

why_unavailable = hardware.why_unavailable


def refuses(x: Tensor, z: Tensor, weight: Tensor) -> str | None:
    """Return what the kernels do not serve: float64, another device than a GPU, rows out of range."""
    low, high = VALUE_DIMS
    size = x.shape[-1]
    if not low <= size <= high or size % DIM_MULTIPLE:
        return f"x: V is {size}, wants a multiple of {DIM_MULTIPLE} from {low} to {high}"
    return hardware.beyond_types(x=x, z=z, weight=weight)


def gated_norm(
    x: Tensor,
    z: Tensor,
    weight: Tensor,
    *,
    eps: float,
    gate_first: bool = False,
    skipped: Tensor | None = None,
    skip: Tensor | None = None,
) -> Tensor:
    """Run the kernels; see `gated_norm.api.gated_norm`."""
    y, _ = _forward(x, z, weight, eps, gate_first, skipped, skip)
    return y


def _forward_fake(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return gpu.results(x)


def _backward_fake(_: Tensor, x: Tensor, z: Tensor, weight: Tensor, *others: Any) -> tuple[Tensor, ...]:
    skip = x.new_empty(0) if others[-1] is None else others[-1]
    return tuple(tensor.new_empty(tensor.shape) for tensor in (x, z, weight, skip))


def _save(ctx: Any, arguments: tuple[Any, ...], results: tuple[Tensor, Tensor]) -> None:
    x, z, weight, _, ctx.gate_first, skipped, skip = arguments
    ctx.mark_non_differentiable(results[1])
    ctx.save_for_backward(x, z, weight, results[1], skipped, skip)


def _differentiate(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    *kept, skipped, skip = ctx.saved_tensors
    dx, dz, d_weight, d_skip = _backward(dy, *kept, ctx.gate_first, skipped, skip)
    if skip is None:
        return dx, dz, d_weight, None, None, None, None
    # A product that the compiler makes part of the sum with the other gradient of what was skipped.
    d_skipped = (skip[:, None] * dx.unflatten(-1, (len(skip), -1))).flatten(-2).to(skipped.dtype)
    return dx, dz, d_weight, None, None, d_skipped, d_skip


_backward = Operator("gated_norm_backward", gpu.backward, fake=_backward_fake)
_forward = Operator("gated_norm", gpu.forward, fake=_forward_fake, save=_save, differentiate=_differentiate)
