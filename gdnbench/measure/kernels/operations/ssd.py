"""Mamba-2's recurrence, with one group of b and c for all heads and a rate of decay by head, as the model has it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from gdnbench_kernels import backends, testing
from gdnbench_kernels.ssd import ssd as operator
from torch import Tensor

from gdnbench.measure.kernels import floors
from gdnbench.measure.kernels.case import KernelCase
from gdnbench.measure.kernels.operations.operation import Operation, Tensors

NAMES = ("c", "b", "x", "dt")

recurrence: Callable[..., tuple[Any, ...]] = operator


def _inputs(case: KernelCase, seed: int) -> Tensors:
    """Draw c, b ``[B, T, 1, K]``, x ``[B, T, H, V]``, dt ``[B, T, H]`` and A ``[H]`` (float32, as the gates)."""
    shape = case.shape
    sizes = testing.Case(
        batch=shape.B, time=shape.T, heads=1, group=shape.H, key_dim=shape.K, value_dim=shape.V, state=False
    )
    drawn = testing.inputs("ssd", sizes, dtype=torch.float32, device=case.device, draw_on=case.device, seed=seed)
    half = {name: drawn[name].to(getattr(torch, case.dtype)) for name in ("c", "b", "x")}
    # The default regime's log decay is A dt, with A by head.
    return {**half, "dt": drawn["dt"], "A": (drawn["g"] / drawn["dt"])[0, 0].contiguous()}


def _outputs(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    """Call a backend; mamba-ssm takes A itself, and making the log decay of it is part of the call for the others."""
    c, b, x, dt = (tensors[name] for name in NAMES)
    if case.impl == "mamba_ssm":
        return (backends.load("ssd", case.impl).scan(c, b, x, tensors["A"], dt)[0],)
    return (recurrence(c, b, x, tensors["A"] * dt, dt, impl=case.impl)[0],)


def _exact(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    c, b, x, dt = (tensors[name] for name in NAMES)
    return (recurrence(c, b, x, tensors["A"] * dt, dt, impl="torch")[0],)


ssd = Operation(
    inputs=_inputs,
    outputs=_outputs,
    exact=_exact,
    work=floors.ssd,
    gradients=(*NAMES, "A"),
    tokens=NAMES,
    like="x",
    check_tokens=32768,
    why_unavailable=partial(backends.why_unavailable, "ssd"),
    what_ran=partial(backends.what_ran, "ssd"),
)
