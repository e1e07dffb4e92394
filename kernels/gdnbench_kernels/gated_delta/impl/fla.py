"""flash-linear-attention's chunked kernels in Triton, forward and backward: a peer to measure against."""

import functools
import os
from collections.abc import Callable
from typing import Any

from torch import Tensor

from gdnbench_kernels import requirements
from gdnbench_kernels.gated_delta import arguments

FUSED = True

# Its dispatcher sends calls to other libraries where it finds them, by switches that it reads at each call. Pinned
# are those that would make this another backend. TileLang stays as it is: on Hopper, flash-linear-attention does not
# trust Triton 3.4 to 3.7.0 with its own backward kernel and takes TileLang's, or refuses to train (its issue 640).
PINNED = {"FLA_FLASH_QLA": "0", "FLA_INTRACARD_CP": "0"}


def why_unavailable() -> str | None:
    """Return what is missing: the library, or a GPU with bfloat16."""
    return requirements.missing("fla-core", oldest="0.6.0", capability=(8, 0))


def refuses(q: Tensor, k: Tensor, v: Tensor, *, backward: bool) -> str | None:
    """Return what it does not serve: K beyond 256, and what was not checked here (float32)."""
    if q.shape[-1] > 256:
        return f"q: K is {q.shape[-1]}, wants at most 256"
    return arguments.beyond_half_on_gpu(q, k, v)


def what_ran() -> dict[str, str]:
    """Return versions, switches and the dispatcher's own log of what it sent elsewhere in this process."""
    from fla import backends

    registries = getattr(backends, "_operation_registries", {}).values()
    sent = {entry for registry in registries for entry in registry._logged if not entry.endswith(":fail")}
    return {
        "fla-core": str(requirements.version("fla-core")),
        "tilelang": requirements.version("tilelang") or "absent",
        **{name: os.environ.get(name, "") for name in (*PINNED, "FLA_TILELANG")},
        "dispatched": ", ".join(sorted(sent)) or "nothing",
    }


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
    own_sigmoid = beta_range in (1.0, 2.0)
    if A_log is not None and gate_scale != 1.0:
        g = gate_scale * g
    if own_sigmoid:
        beta = beta if gate_scale == 1.0 else gate_scale * beta
    else:
        beta = arguments.strength(beta, beta_range, gate_scale)
    return _pinned()(
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


@functools.cache
def _pinned() -> Callable[..., Any]:
    """Pin the switches of this process, at the first call and not when the file is looked at."""
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    os.environ.update(PINNED)
    return chunk_gated_delta_rule
