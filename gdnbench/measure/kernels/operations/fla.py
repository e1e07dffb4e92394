"""RWKV-7's recurrence by the kernels of flash-linear-attention."""

from collections.abc import Callable
from typing import Any

import torch
from gdnbench_kernels import testing
from gdnbench_kernels import wkv7 as recurrences
from torch import Tensor

from gdnbench.measure.kernels import floors
from gdnbench.measure.kernels.case import KernelCase
from gdnbench.measure.kernels.operations.operation import Operation, Tensors

NAMES = ("r", "w", "k", "v", "a", "b")

definition: Callable[..., tuple[Any, ...]] = recurrences.wkv7


def why_unavailable(impl: str) -> str | None:
    """Return why flash-linear-attention cannot run here, or None."""
    try:
        import fla.ops.rwkv7  # noqa: F401
    except Exception as error:
        return f"flash-linear-attention cannot be imported ({' '.join(str(error).split())})"
    return None


def _inputs(case: KernelCase, seed: int) -> Tensors:
    shape = case.shape
    sizes = testing.Case(batch=shape.B, time=shape.T, heads=shape.H, key_dim=shape.K, value_dim=shape.V, state=False)
    dtype = getattr(torch, case.dtype)
    return testing.inputs("wkv7", sizes, dtype=dtype, device=case.device, draw_on=case.device, seed=seed)


def _outputs(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    from fla.ops.rwkv7 import chunk_rwkv7

    return (chunk_rwkv7(**tensors, scale=1.0, output_final_state=False)[0],)


def _exact(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    return (definition(**tensors)[0],)


wkv7 = Operation(
    inputs=_inputs,
    outputs=_outputs,
    exact=_exact,
    work=floors.wkv7,
    gradients=NAMES,
    tokens=NAMES,
    like="v",
    check_tokens=4096,
    why_unavailable=why_unavailable,
    foreign=True,
)
