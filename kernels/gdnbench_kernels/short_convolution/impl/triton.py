"""Our own kernels, as operators of PyTorch: one pass over memory forward, one backward."""

from typing import Any

import torch
from torch import Tensor

from gdnbench_kernels.gpu import hardware
from gdnbench_kernels.operators import Operator
from gdnbench_kernels.short_convolution import gpu

WIDTHS = (2, 8)

why_unavailable = hardware.why_unavailable


def refuses(x: Tensor, weight: Tensor, bias: Tensor | None, initial_state: Tensor | None) -> str | None:
    """Return what the kernels do not serve: float64, another device than a GPU, widths out of range."""
    low, high = WIDTHS
    if not low <= weight.shape[1] <= high:
        return f"weight: W is {weight.shape[1]}, wants {low} to {high}"
    return hardware.beyond_types(x=x, weight=weight, bias=bias, initial_state=initial_state)


def short_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    silu: bool,
    output_final_state: bool,
) -> tuple[Tensor, Tensor]:
    """Run the kernels; see `short_convolution.api.short_convolution`."""
    y, final = _forward(x, weight, bias, initial_state, cu_seqlens, silu, output_final_state)
    return y, final


def _forward_fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    silu: bool,
    output_final_state: bool,
) -> tuple[Tensor, Tensor]:
    return gpu.results(x, weight, cu_seqlens, output_final_state)


def _backward_fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, initial_state: Tensor | None, *rest: object
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dx, d_weight, d_bias, d_initial = (gpu.empty_like(each, x) for each in (x, weight, bias, initial_state))
    return dx, d_weight, d_bias, d_initial


def _save(ctx: Any, arguments: tuple[Any, ...], results: tuple[Tensor, Tensor]) -> None:
    *_, ctx.silu, output_final_state = arguments
    ctx.set_materialize_grads(False)
    if not output_final_state:
        ctx.mark_non_differentiable(results[1])
    ctx.save_for_backward(*arguments[:5])


def _differentiate(ctx: Any, dy: Tensor | None, d_final: Tensor | None) -> tuple[Tensor | None, ...]:
    x, *rest = ctx.saved_tensors
    dy = torch.zeros_like(x) if dy is None else dy
    gradients = _backward(x, *rest, dy, d_final, ctx.silu)
    by_argument = [d if given is not None else None for d, given in zip(gradients, (x, *rest[:3]), strict=True)]
    return *by_argument, None, None, None


_backward = Operator("short_convolution_backward", gpu.backward, fake=_backward_fake)
_forward = Operator("short_convolution", gpu.forward, fake=_forward_fake, save=_save, differentiate=_differentiate)
