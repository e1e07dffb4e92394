"""Kimi delta attention: the gated delta rule with a log decay for every key channel, by channel as models start."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from gdnbench_kernels import backends, testing
from gdnbench_kernels import kda as recurrences
from torch import Tensor

from gdnbench.measure.kernels import floors
from gdnbench.measure.kernels.case import KernelCase
from gdnbench.measure.kernels.operations.operation import Operation, Tensors

NAMES = ("q", "k", "v", "g", "beta")

recurrence: Callable[..., tuple[Any, ...]] = recurrences.kda


def _inputs(case: KernelCase, seed: int) -> Tensors:
    shape = case.shape
    sizes = testing.Case(batch=shape.B, time=shape.T, heads=shape.H, key_dim=shape.K, value_dim=shape.V, state=False)
    drawn = testing.inputs("kda", sizes, dtype=torch.float32, device=case.device, draw_on=case.device, seed=seed)
    return drawn | {name: drawn[name].to(getattr(torch, case.dtype)) for name in ("q", "k", "v")}


def _outputs(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    return (recurrence(**tensors, impl=case.impl)[0],)


def _exact(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    return (recurrence(**tensors, impl="torch")[0],)


kda = Operation(
    inputs=_inputs,
    outputs=_outputs,
    exact=_exact,
    work=floors.kda,
    gradients=NAMES,
    tokens=NAMES,
    like="v",
    check_tokens=4096,
    why_unavailable=partial(backends.why_unavailable, "kda"),
    what_ran=partial(backends.what_ran, "kda"),
    foreign=True,
)
