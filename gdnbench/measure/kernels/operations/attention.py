"""Causal softmax attention, on views of what a projection leaves: what the other mixers are compared with."""

from functools import partial

import torch
from gdnbench_kernels import attention as definitions
from gdnbench_kernels import backends, testing
from torch import Tensor

from gdnbench.measure.kernels import floors
from gdnbench.measure.kernels.case import KernelCase
from gdnbench.measure.kernels.operations.operation import Operation, Tensors

NAMES = ("q", "k", "v")


def _inputs(case: KernelCase, seed: int) -> Tensors:
    shape = case.shape
    sizes = testing.Case(batch=shape.B, time=shape.T, heads=shape.H, key_dim=shape.K, value_dim=shape.V)
    dtype = getattr(torch, case.dtype)
    return testing.inputs("attention", sizes, dtype=dtype, device=case.device, draw_on=case.device, seed=seed)


def _call(case: KernelCase, tensors: Tensors, impl: str) -> tuple[Tensor, ...]:
    q, k, v = (tensors[name] for name in NAMES)
    return (definitions.attention(q, k, v, scale=case.shape.K**-0.5, impl=impl),)


def _outputs(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    return _call(case, tensors, case.impl)


def _exact(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    return _call(case, tensors, "torch")


attention = Operation(
    inputs=_inputs,
    outputs=_outputs,
    exact=_exact,
    work=floors.attention,
    gradients=NAMES,
    tokens=NAMES,
    like="v",
    check_tokens=4096,
    why_unavailable=partial(backends.why_unavailable, "attention"),
    what_ran=partial(backends.what_ran, "attention"),
    foreign=True,
)
