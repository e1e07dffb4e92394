"""flash-linear-attention's chunked kernels in Triton, forward and backward: a peer to measure against."""

from torch import Tensor

from gdnbench_kernels.fla import pin, what_ran, why_unavailable
from gdnbench_kernels.gated_delta import arguments

__all__ = ["FUSED", "gated_delta_rule", "refuses", "what_ran", "why_unavailable"]

FUSED = True


def refuses(q: Tensor, k: Tensor, v: Tensor, *, backward: bool) -> str | None:
    """Return what it does not serve: K beyond 256, and what was not checked here (float32)."""
    if q.shape[-1] > 256:
        return f"q: K is {q.shape[-1]}, wants at most 256"
    return arguments.beyond_half_on_gpu(q, k, v)


def gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None,
    output_final_state: bool,
    cu_seqlens: Tensor | None,
    normalize_qk: bool,
    A_log: Tensor | None,
    dt_bias: Tensor | None,
    gate_scale: float,
    beta_range: float | None,
) -> tuple[Tensor, Tensor | None]:
    """Run its kernels, with norm, log decay and sigmoid by its own kernels as far as it has them."""
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    pin()
    own_sigmoid = beta_range in (1.0, 2.0)
    if A_log is not None and gate_scale != 1.0:
        g = gate_scale * g
    if own_sigmoid:
        beta = beta if gate_scale == 1.0 else gate_scale * beta
    else:
        beta = arguments.strength(beta, beta_range, gate_scale)
    return chunk_gated_delta_rule(
        q,
        k,
        v,
        g,
        beta,
        scale=scale,
        initial_state=None if initial_state is None else initial_state.float(),
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=normalize_qk,
        use_beta_sigmoid_in_kernel=own_sigmoid,
        allow_neg_eigval=beta_range == 2.0,
        cu_seqlens=cu_seqlens,
        use_gate_in_kernel=A_log is not None,
        A_log=A_log,
        dt_bias=dt_bias,
    )
