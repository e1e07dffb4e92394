"""The head and the loss of a language model: B T tokens of K features (the width of the model), V words."""

from collections.abc import Callable

import torch
from gdnbench_kernels import backends, testing
from gdnbench_kernels import linear_cross_entropy as losses
from torch import Tensor

from gdnbench.measure.kernels import floors
from gdnbench.measure.kernels.case import KernelCase
from gdnbench.measure.kernels.operations.operation import Operation, Tensors

OP = "linear_cross_entropy"

loss: Callable[..., Tensor] = losses.linear_cross_entropy


def _inputs(case: KernelCase, seed: int) -> Tensors:
    shape = case.shape
    sizes = testing.Case(batch=shape.B, time=shape.T, key_dim=shape.K, value_dim=shape.V)
    dtype = getattr(torch, case.dtype)
    return testing.inputs(OP, sizes, dtype=dtype, device=case.device, draw_on=case.device, seed=seed)


def _outputs(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    """Return the sum over tokens, whose gradients are of size 1."""
    return (case.shape.B * case.shape.T * loss(**tensors, impl=case.impl),)


def _exact(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    integers = {"targets": tensors["targets"].long()}
    return (case.shape.B * case.shape.T * loss(**(tensors | integers), impl="torch"),)


linear_cross_entropy = Operation(
    inputs=_inputs,
    outputs=_outputs,
    exact=_exact,
    work=floors.linear_cross_entropy,
    gradients=("x", "weight"),
    tokens=(),
    like=None,
    why_unavailable=lambda impl: backends.why_unavailable(OP, impl),
    what_ran=lambda impl: backends.what_ran(OP, impl),
)
