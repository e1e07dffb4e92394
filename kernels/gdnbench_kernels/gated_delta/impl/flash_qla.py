"""FlashQLA's kernels in TileLang, forward and backward, K = V = 128: a peer to measure against."""

from torch import Tensor

from gdnbench_kernels import requirements
from gdnbench_kernels.gated_delta import arguments

FUSED = True


def why_unavailable() -> str | None:
    """Return what is missing: the library, or a GPU of Hopper or later."""
    return requirements.missing("flash-qla", oldest="0.1.3", capability=(9, 0))


def refuses(q: Tensor, k: Tensor, v: Tensor, *, backward: bool) -> str | None:
    """Return what it does not serve: head dims other than 128, other types than half precision."""
    return arguments.beyond_head_dim_128(q, v) or arguments.beyond_half_on_gpu(q, k, v)


def what_ran() -> dict[str, str]:
    """Return the versions of the library and of its compiler."""
    return {name: str(requirements.version(name)) for name in ("flash-qla", "tilelang")}


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
    """Run its kernels, with the norm by its own; gates by `arguments`. An empty sequence is an error of its own."""
    from flash_qla import chunk_gated_delta_rule

    if scale == 0:
        raise ValueError("scale: 0 stands for K^-1/2 in backend 'flash_qla', wants another factor")
    return chunk_gated_delta_rule(
        q,
        k,
        v,
        # Its cumulative sum and the gradient keep the type of g, and the gradient must be float32.
        arguments.log_decay(g, A_log, dt_bias, gate_scale).float(),
        arguments.strength(beta, beta_range, gate_scale),
        scale=scale,
        initial_state=None if initial_state is None else initial_state.float(),
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=normalize_qk,
        cu_seqlens=cu_seqlens,
    )
