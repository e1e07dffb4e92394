"""PyTorch's fused attention kernels by name: what each refuses, and how tensors are laid before it.

The operators are called themselves, not chosen through `torch.nn.attention.sdpa_kernel`: so nothing is there that could
choose another one, and torch.compile finds one operator in place of a context.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gdnbench_kernels.precision import HALF

# (parameters of `torch.nn.functional.scaled_dot_product_attention`, whether to warn of reasons) -> whether it is served
Serves = Callable[[Any, bool], bool]


def refusal(serves: Serves, q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Return what of a call a kernel does not serve, in PyTorch's own words, or None.

    PyTorch is asked outside of tracing only; a traced call that it does not serve is the operator's error.
    """
    time, positions = q.shape[1], k.shape[1]
    if 1 < time < positions:
        return f"k: {positions} positions for {time} queries, wants as many (or one query)"
    if q.shape[-1] % 8:
        return f"q: K is {q.shape[-1]}, wants a multiple of 8"
    if not q.is_cuda:
        return f"q: on {q.device}, wants a CUDA device"
    q, k, v = arguments(q, k, v)
    if q.dtype not in HALF:
        return f"q: {q.dtype}, wants bfloat16 or float16"
    if torch.compiler.is_compiling():
        return None
    call = torch.backends.cuda.SDPAParams(q, k, v, None, 0.0, time == positions, q.shape[1] != k.shape[1])
    if serves(call, False):
        return None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        serves(call, True)
    reasons = [str(one.message).partition(" (Triggered")[0] for one in said]
    return f"q, k, v: {' '.join(reasons) or f'{list(q.shape)} and {list(v.shape)} are not served'}"


def arguments(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return views ``[B, H, T, D]``, in the type of autocast where that is on (it does not reach the operators)."""
    if torch.is_autocast_enabled("cuda"):
        q, k, v = (x.to(torch.get_autocast_dtype("cuda")) for x in (q, k, v))
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
