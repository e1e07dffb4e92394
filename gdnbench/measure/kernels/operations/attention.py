"""Causal softmax attention by PyTorch's flash and cuDNN kernels: what the other mixers are compared with."""

import contextlib
import warnings

import torch
from gdnbench_kernels import testing
from gdnbench_kernels.attention import attention as definition
from gdnbench_kernels.backends import BackendUnavailable
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from gdnbench.measure.kernels import floors
from gdnbench.measure.kernels.case import KernelCase
from gdnbench.measure.kernels.operations.operation import Operation, Tensors

KERNELS = {"sdpa_flash": SDPBackend.FLASH_ATTENTION, "sdpa_cudnn": SDPBackend.CUDNN_ATTENTION}
NAMES = ("q", "k", "v")


def _inputs(case: KernelCase, seed: int) -> Tensors:
    shape = case.shape
    sizes = testing.Case(batch=shape.B, time=shape.T, heads=shape.H, key_dim=shape.K, value_dim=shape.V)
    dtype = getattr(torch, case.dtype)
    return testing.inputs("attention", sizes, dtype=dtype, device=case.device, draw_on=case.device, seed=seed)


def _outputs(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    """Call on views ``[B, H, T, D]`` of ``[B, T, H, D]``: the layout that a projection leaves."""
    q, k, v = (tensors[name].transpose(1, 2) for name in NAMES)
    with sdpa_kernel(KERNELS[case.impl]):
        try:
            output = F.scaled_dot_product_attention(q, k, v, scale=case.shape.K**-0.5, is_causal=True)
        except RuntimeError as error:
            raise BackendUnavailable(f"{case.impl}: {_reason(q, k, v) or error}") from error
    return (output.transpose(1, 2),)


def _reason(q: Tensor, k: Tensor, v: Tensor) -> str:
    """Return why no kernel served a call, which PyTorch says in warnings."""
    with warnings.catch_warnings(record=True) as said, contextlib.suppress(RuntimeError):
        warnings.simplefilter("always")
        F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return " ".join(str(one.message).split(" (Triggered")[0] for one in said)


def _exact(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    q, k, v = (tensors[name] for name in NAMES)
    return (definition(q, k, v, scale=case.shape.K**-0.5),)


attention = Operation(
    inputs=_inputs,
    outputs=_outputs,
    exact=_exact,
    work=floors.attention,
    gradients=NAMES,
    tokens=NAMES,
    like="v",
    check_tokens=4096,
    why_unavailable=lambda impl: None,
    foreign=True,
)
