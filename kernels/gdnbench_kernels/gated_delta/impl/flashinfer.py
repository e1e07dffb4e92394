"""FlashInfer's fused prefill kernel in CuTe, forward only, K = V = 128: a peer to measure against."""

import functools

import torch
from torch import Tensor

from gdnbench_kernels import requirements
from gdnbench_kernels.gated_delta import arguments

FUSED = True


def why_unavailable() -> str | None:
    """Return what is missing: the library, its compiler, or a GPU of Hopper or later."""
    if requirements.version("nvidia-cutlass-dsl") is None:
        return "nvidia-cutlass-dsl, which compiles flashinfer-python's kernels, is not installed"
    return requirements.missing("flashinfer-python", oldest="0.7.2", capability=(9, 0))


def refuses(q: Tensor, k: Tensor, v: Tensor, *, backward: bool) -> str | None:
    """Return what it does not serve: gradients, head dims other than 128, other types than half precision."""
    if backward:
        return "impl: it runs forward only, wants inputs without gradients or torch.no_grad()"
    return arguments.beyond_head_dim_128(q, v) or arguments.beyond_half_on_gpu(q, k, v)


def what_ran() -> dict[str, str]:
    """Return the versions of the library and of its compiler."""
    return {name: str(requirements.version(name)) for name in ("flashinfer-python", "nvidia-cutlass-dsl")}


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
    """Run its kernel, with the norm by its own; gates by `arguments`.

    It knows packed sequences ``[tokens, heads, 128]`` only, states ``[V, K]``, and the decay itself: to ``e^g`` it
    adds 1e-10 inside, so that what is forgotten below that is not told apart.
    """
    from flashinfer.gdn_prefill import chunk_gated_delta_rule

    if scale == 0:
        raise ValueError("scale: 0 stands for K^-1/2 in backend 'flashinfer', wants another factor")
    batch, time = q.shape[:2]
    result = chunk_gated_delta_rule(
        *(x.flatten(0, 1).contiguous() for x in (q, k, v)),
        _gate(arguments.log_decay(g, A_log, dt_bias, gate_scale)).exp(),
        _gate(arguments.strength(beta, beta_range, gate_scale)),
        scale=scale,
        initial_state=None if initial_state is None else initial_state.float().mT.contiguous(),
        output_final_state=output_final_state,
        cu_seqlens=_equal_lengths(batch, time, q.device) if cu_seqlens is None else cu_seqlens,
        use_qk_l2norm_in_kernel=normalize_qk,
        backend="flashinfer",  # its own kernels, not cuDNN's
    )
    output, state = result if output_final_state else (result, None)
    return output.unflatten(0, (batch, time)), None if state is None else state.mT.contiguous()


def _gate(x: Tensor) -> Tensor:
    return x.flatten(0, 1).float().contiguous()


@functools.lru_cache(maxsize=64)  # made once, so that it does not count as the kernel's time
def _equal_lengths(batch: int, time: int, device: torch.device) -> Tensor:
    return torch.arange(0, (batch + 1) * time, time, dtype=torch.int64, device=device)
