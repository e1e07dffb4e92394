"""Liger-Kernel's fused linear cross entropy, in chunks of its own choice: a peer to measure against.

It reads the number of counted targets on the host, so it waits for the GPU, and no CUDA graph can hold it.
"""

import contextlib
from typing import Any

import torch
from torch import Tensor

from gdnbench_kernels import requirements
from gdnbench_kernels.linear_cross_entropy.api import IGNORED
from gdnbench_kernels.precision import HALF


def why_unavailable() -> str | None:
    """Return what is missing: the library, or a GPU with bfloat16."""
    return requirements.missing("liger-kernel", oldest="0.8.5", capability=(8, 0))


def refuses(x: Tensor, weight: Tensor, targets: Tensor, *, chunk_size: int | None) -> str | None:
    """Return what it does not serve: a size of chunks, and what was not checked here (float32)."""
    if chunk_size is not None:
        return f"chunk_size: {chunk_size}, wants None: it has its own"
    if not x.is_cuda:
        return f"x: on {x.device}, wants a CUDA device"
    return None if x.dtype in HALF else f"x: {x.dtype}, wants bfloat16 or float16"


def what_ran() -> dict[str, str]:
    """Return its version."""
    return {"liger-kernel": str(requirements.version("liger-kernel"))}


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, *, scale: float, chunk_size: int | None) -> Tensor:
    """Return the sum of losses; see `linear_cross_entropy.api.linear_cross_entropy`."""
    return _call(x, weight, targets, scale, "sum")


def linear_cross_entropy_scores(
    x: Tensor, weight: Tensor, targets: Tensor, *, scale: float, chunk_size: int | None
) -> Tensor:
    """Return losses by token; see `linear_cross_entropy.api.linear_cross_entropy_scores`."""
    return _call(x, weight, targets, scale, "none")


def _call(x: Tensor, weight: Tensor, targets: Tensor, scale: float, reduction: str) -> Tensor:
    """Run it with the weight's gradient summed in float32; master weights are what it has autocast for."""
    from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

    x = x if scale == 1 else x * scale  # it has no factor of the logits
    arguments: tuple[Any, ...] = (targets, None, None, IGNORED, 0.0, 0.0, reduction, None, False, torch.float32)
    mixed = weight.dtype != x.dtype
    with torch.autocast(x.device.type, x.dtype) if mixed else contextlib.nullcontext():
        loss: Tensor = LigerFusedLinearCrossEntropyFunction.apply(x, weight, *arguments)[0]
    return loss
