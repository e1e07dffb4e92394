"""What stands before and after the recurrence in a model: the short convolution of q, k, v, and the gated norm."""

from collections.abc import Callable
from typing import Any

import torch
from gdnbench_kernels import backends, testing
from gdnbench_kernels import gated_norm as norms
from gdnbench_kernels import short_convolution as convolutions
from torch import Tensor

from gdnbench.measure.kernels import floors
from gdnbench.measure.kernels.case import KernelCase
from gdnbench.measure.kernels.operations.operation import Operation, Tensors

convolution: Callable[..., tuple[Any, ...]] = convolutions.short_convolution
norm: Callable[..., Tensor] = norms.gated_norm


def _convolution_inputs(case: KernelCase, seed: int) -> Tensors:
    """Draw x ``[B, T, H (2K + V)]``, q, k and v side by side, and weight and bias of the convolution of width 4."""
    return _drawn("short_convolution", case, seed, channels=2 * case.shape.K + case.shape.V)


def _convolution(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    return (convolution(**tensors, activation="silu", impl=case.impl)[0],)


def _exact_convolution(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    return (convolution(**tensors, activation="silu", impl="torch")[0],)


def _norm_inputs(case: KernelCase, seed: int) -> Tensors:
    return _drawn("gated_norm", case, seed, channels=case.shape.V)


def _norm(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    return (norm(**tensors, impl=case.impl),)


def _exact_norm(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    return (norm(**tensors, impl="torch"),)


def _drawn(operation: str, case: KernelCase, seed: int, *, channels: int) -> Tensors:
    shape = case.shape
    sizes = testing.Case(batch=shape.B, time=shape.T, heads=shape.H, value_dim=channels, state=False)
    dtype = getattr(torch, case.dtype)
    return testing.inputs(operation, sizes, dtype=dtype, device=case.device, draw_on=case.device, seed=seed)


def _why_unavailable(operation: str) -> Callable[[str], str | None]:
    return lambda impl: backends.why_unavailable(operation, impl)


short_convolution = Operation(
    inputs=_convolution_inputs,
    outputs=_convolution,
    exact=_exact_convolution,
    work=floors.short_convolution,
    gradients=("x", "weight", "bias"),
    tokens=("x",),
    like="x",
    check_tokens=4096,
    why_unavailable=_why_unavailable("short_convolution"),
)
gated_norm = Operation(
    inputs=_norm_inputs,
    outputs=_norm,
    exact=_exact_norm,
    work=floors.gated_norm,
    gradients=("x", "z", "weight"),
    tokens=("x", "z"),
    like="x",
    check_tokens=4096,
    why_unavailable=_why_unavailable("gated_norm"),
)
