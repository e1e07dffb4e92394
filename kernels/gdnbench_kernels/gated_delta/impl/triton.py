"""Our own kernels, in Triton and on Hopper in Gluon: chunked forward and backward, and the decode step."""

import os

import torch
from torch import Tensor

from gdnbench_kernels.gated_delta.gpu import operator as _operator  # registers the custom ops
from gdnbench_kernels.gated_delta.gpu.step import step

FUSED = True  # norms and gates happen inside

OLDEST = (8, 0)  # compute capability: bfloat16 matrix instructions and asynchronous copies


def why_unavailable() -> str | None:
    """Return why the kernels cannot run on this machine, or None."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if not torch.cuda.is_available():
        return "it needs an NVIDIA GPU, and PyTorch sees none"
    found = torch.cuda.get_device_capability()
    if found < OLDEST:
        return f"it needs compute capability {OLDEST[0]}.{OLDEST[1]} or newer, this GPU has {found[0]}.{found[1]}"
    return None


def gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    normalize_qk: bool,
    A_log: Tensor | None,
    dt_bias: Tensor | None,
    gate_scale: float,
    beta_range: float | None,
    output_final_state: bool,
) -> tuple[Tensor, Tensor | None]:
    """Run the chunked kernels; see `gated_delta.api.gated_delta_rule`."""
    if initial_state is not None:
        initial_state = initial_state.float().contiguous()
    if A_log is not None and dt_bias is not None:
        A_log, dt_bias = A_log.float(), dt_bias.float()
    output, final, *_ = torch.ops.gdnbench.gated_delta_forward(
        q,
        k,
        v,
        g,
        beta,
        A_log,
        dt_bias,
        initial_state,
        cu_seqlens,
        scale,
        gate_scale,
        beta_range,
        normalize_qk,
        output_final_state,
    )
    return output, final if output_final_state else None
