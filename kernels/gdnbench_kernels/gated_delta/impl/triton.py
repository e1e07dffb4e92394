"""Our own kernels, in Triton and on Hopper in Gluon: chunked forward and backward, and the decode step."""

from torch import Tensor

from gdnbench_kernels.gated_delta import arguments
from gdnbench_kernels.gated_delta.gpu import operator
from gdnbench_kernels.gated_delta.gpu.step import gated_delta_step
from gdnbench_kernels.gpu import hardware

FUSED = True  # norms and gates happen inside

why_unavailable = hardware.why_unavailable


def refuses(q: Tensor, k: Tensor, v: Tensor, *, backward: bool) -> str | None:
    """Return what the kernels do not serve: head dims out of range, or other than half precision on a GPU."""
    where = None if hardware.INTERPRETED else arguments.beyond_half_on_gpu(q, k, v)
    return where or arguments.beyond_head_dims(q, v)


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
    output, final, *_ = operator.gated_delta_forward(
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


def gated_delta_rule_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    state: Tensor,
    *,
    scale: float,
    normalize_qk: bool,
    A_log: Tensor | None,
    dt_bias: Tensor | None,
    gate_scale: float,
    beta_range: float | None,
) -> Tensor:
    """Advance ``state`` in place; see `gated_delta.api.gated_delta_rule_step`."""
    if A_log is not None and dt_bias is not None:
        A_log, dt_bias = A_log.float(), dt_bias.float()
    return gated_delta_step(q, k, v, g, beta, state, A_log, dt_bias, scale, gate_scale, beta_range, normalize_qk)
