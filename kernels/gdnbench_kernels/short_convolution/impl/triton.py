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


def short_convolutions(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, sizes: tuple[int, int, int], silu: bool
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Run the kernels once for each part; see `short_convolution.api.short_convolutions`."""
    a, b, c, rest = _forward_parts(x, weight, bias, sizes[0], sizes[1], silu)
    return (a, b, c), rest


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


def _parts_fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, first: int, second: int, silu: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return gpu.results_of_parts(x, weight, first, second)


def _parts_backward_fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, *rest: object
) -> tuple[Tensor, Tensor, Tensor]:
    dx, d_weight, d_bias = (gpu.empty_like(each, x) for each in (x, weight, bias))
    return dx, d_weight, d_bias


def _save_parts(ctx: Any, arguments: tuple[Any, ...], results: tuple[Tensor, ...]) -> None:
    *_, ctx.silu = arguments
    ctx.save_for_backward(*arguments[:3])


def _differentiate_parts(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias = ctx.saved_tensors
    dx, d_weight, d_bias = _backward_parts(x, weight, bias, *gradients, ctx.silu)
    return dx, d_weight, None if bias is None else d_bias, None, None, None


_backward_parts = Operator("short_convolutions_backward", gpu.backward_parts, fake=_parts_backward_fake)
_forward_parts = Operator(
    "short_convolutions", gpu.forward_parts, fake=_parts_fake, save=_save_parts, differentiate=_differentiate_parts
)
