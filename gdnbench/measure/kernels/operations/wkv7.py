"""RWKV-7's recurrence, with log decays as its models start."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from gdnbench_kernels import backends, testing
from gdnbench_kernels import wkv7 as recurrences
from torch import Tensor

from gdnbench.measure.kernels import floors
from gdnbench.measure.kernels.case import KernelCase
from gdnbench.measure.kernels.operations.operation import Operation, Tensors

NAMES = ("r", "w", "k", "v", "a", "b")

recurrence: Callable[..., tuple[Any, ...]] = recurrences.wkv7


def _inputs(case: KernelCase, seed: int) -> Tensors:
    shape = case.shape
    sizes = testing.Case(batch=shape.B, time=shape.T, heads=shape.H, key_dim=shape.K, value_dim=shape.V, state=False)
    dtype = getattr(torch, case.dtype)
    return testing.inputs("wkv7", sizes, dtype=dtype, device=case.device, draw_on=case.device, seed=seed)


def _outputs(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    return (recurrence(**tensors, impl=case.impl)[0],)


def _exact(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    return (recurrence(**tensors, impl="torch")[0],)


wkv7 = Operation(
    inputs=_inputs,
    outputs=_outputs,
    exact=_exact,
    work=floors.wkv7,
    gradients=NAMES,
    tokens=NAMES,
    like="v",
    check_tokens=4096,
    why_unavailable=partial(backends.why_unavailable, "wkv7"),
    what_ran=partial(backends.what_ran, "wkv7"),
    foreign=True,
)
