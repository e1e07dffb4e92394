"""Products of one input with several matrices as one operator: the gradient of the input is summed inside the products.

Written out, each product's part of that gradient would be stored, read again and added. The matrices' gradients come
out of the products in the matrices' own type: sums over all tokens are not rounded to half precision.
"""

from collections.abc import Sequence
from typing import Any

import torch
from gdnbench_kernels.precision import HALF
from torch import Tensor


def products(x: Tensor, matrices: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return ``x W^T`` for each of the matrices ``[fan_out, fan_in]``, for ``x [..., fan_in]``; differentiable once.

    Products are in the type of autocast, where that is on, else in the type of x.
    """
    kind = x.device.type
    if torch.is_autocast_enabled(kind) and x.dtype is not torch.float64:
        x = x.to(torch.get_autocast_dtype(kind))
    return tuple(y.unflatten(0, x.shape[:-1]) for y in _forward(x.flatten(0, -2), list(matrices)))


@torch.library.custom_op("gdnbench::products", mutates_args=())
def _forward(x: Tensor, matrices: Sequence[Tensor]) -> list[Tensor]:
    with torch.autocast(x.device.type, enabled=False):
        return [x @ matrix.to(x.dtype).T for matrix in matrices]


@torch.library.custom_op("gdnbench::products_backward", mutates_args=())
def _backward(x: Tensor, matrices: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient of x, and those of the matrices."""
    with torch.autocast(x.device.type, enabled=False):
        d_x = gradients[0] @ matrices[0].to(x.dtype)
        for gradient, matrix in zip(gradients[1:], matrices[1:], strict=True):
            d_x.addmm_(gradient, matrix.to(x.dtype))
        return [d_x, *(_of_matrix(d, x, matrix.dtype) for d, matrix in zip(gradients, matrices, strict=True))]


def _of_matrix(gradient: Tensor, x: Tensor, kind: torch.dtype) -> Tensor:
    if x.is_cuda and x.dtype in HALF and kind is torch.float32:
        return torch.mm(gradient.T, x, out_dtype=kind)
    return (gradient.T @ x).to(kind)


@_forward.register_fake
def _(x: Tensor, matrices: Sequence[Tensor]) -> list[Tensor]:
    return [x.new_empty(x.shape[0], matrix.shape[0]) for matrix in matrices]


@_backward.register_fake
def _(x: Tensor, matrices: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
    return [torch.empty_like(x), *(torch.empty_like(matrix) for matrix in matrices)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.save_for_backward(inputs[0], *inputs[1])


def _differentiate(ctx: Any, gradients: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    x, *matrices = ctx.saved_tensors
    d_x, *d_matrices = _backward(x, matrices, gradients)
    return d_x, d_matrices


_forward.register_autograd(_differentiate, setup_context=_save)
