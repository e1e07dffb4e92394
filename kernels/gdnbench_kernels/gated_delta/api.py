"""The gated delta rule (Yang, Kautz, Hatamizadeh: Gated Delta Networks, eq. 10), whole sequences and single tokens."""

from typing import Any

import torch
from torch import Tensor

from gdnbench_kernels import backends
from gdnbench_kernels.gated_delta import arguments


def gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    scale: float = 1.0,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
    normalize_qk: bool = False,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    gate_scale: float = 1.0,
    beta_range: float | None = None,
    validate: bool = False,
    impl: str = "torch",
) -> tuple[Tensor, Tensor | None]:
    """Run ``S_t = e^{g_t} (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T``, ``o_t = scale * S_t^T q_t``.

    Differentiable in every tensor but ``cu_seqlens``, as far as the backend is.

    Args:
        q: queries ``[B, T, H, K]``, normalized by the caller where wanted, or here by ``normalize_qk``.
        k: keys ``[B, T, H, K]``, of norm at most 1 if the recurrence is to be stable.
        v: values ``[B, T, HV, V]``; HV is a multiple of H, and value head ``i`` reads key head ``i // (HV // H)``.
        g: log decay ``[B, T, HV]``, at most 0; with ``A_log`` the raw gate it is made from.
        beta: writing strength ``[B, T, HV]`` in ``[0, 2]``; with ``beta_range`` the raw gate it is made from.
        scale: factor of the output.
        initial_state: ``[sequences, HV, K, V]``, where without ``cu_seqlens`` there are B sequences; None is zero.
        output_final_state: whether the state after the last token is returned.
        cu_seqlens: int32 or int64 ``[sequences + 1]``: the T tokens of a batch of 1 are sequences packed one after
            another, ``cu_seqlens[i]`` to ``cu_seqlens[i + 1]`` the ith, which may be empty.
        normalize_qk: divide the rows of q and k by ``sqrt(sum(x^2) + 1e-6)``.
        A_log: ``[HV]``, with ``dt_bias``: the log decay is ``-exp(A_log) * softplus(gate_scale * g + dt_bias)``.
        dt_bias: ``[HV]``.
        gate_scale: multiplier of both raw gates (the gating normalization of a parametrization).
        beta_range: at most 2: the writing strength is ``beta_range * sigmoid(gate_scale * beta)``.
        validate: check values of tensors on a GPU too (g, beta, ``cu_seqlens``), at the price of waiting for it; on a
            CPU they always are. Neither while a CUDA graph is captured nor while `torch.compile` traces.
        impl: the backend, by name (`gdnbench_kernels.backends.names("gated_delta")`).

    Returns:
        The output ``[B, T, HV, V]`` and the final state ``[sequences, HV, K, V]`` or None.

    Raises:
        ValueError: an argument does not fit; the message names it, what it got and what it wants.
        BackendUnavailable: the backend does not exist or cannot run here.
        BackendRefusal: both of these: the backend does not serve such a call; the message names those that do.
    """
    arguments.check(
        q,
        k,
        v,
        g,
        beta,
        initial_state=initial_state,
        cu_seqlens=cu_seqlens,
        A_log=A_log,
        dt_bias=dt_bias,
        beta_range=beta_range,
        validate=validate,
    )
    backward = arguments.wants_gradients(q, k, v, g, beta, initial_state, A_log, dt_bias)
    backend = backends.serving("gated_delta", "gated_delta_rule", impl, q, k, v, backward=backward)
    raw = _activation(normalize_qk, A_log, dt_bias, gate_scale, beta_range)
    settings: dict[str, Any] = {"scale": scale, "initial_state": initial_state, "cu_seqlens": cu_seqlens}
    if getattr(backend, "FUSED", False):
        settings |= raw | {"output_final_state": output_final_state}
    else:
        q, k, g, beta = arguments.activate(q, k, g, beta, **raw)
    output, state = backend.gated_delta_rule(q, k, v, g, beta, **settings)
    return output, state if output_final_state else None


def gated_delta_rule_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    state: Tensor,
    *,
    scale: float = 1.0,
    normalize_qk: bool = False,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    gate_scale: float = 1.0,
    beta_range: float | None = None,
    inplace: bool = False,
    impl: str = "torch",
) -> tuple[Tensor, Tensor]:
    """Advance the recurrence of `gated_delta_rule` by one token.

    Args:
        q: ``[B, H, K]``; this and the next four as in `gated_delta_rule`, without T.
        k: ``[B, H, K]``.
        v: ``[B, HV, V]``.
        g: ``[B, HV]``.
        beta: ``[B, HV]``.
        state: ``[B, HV, K, V]``.
        scale: factor of the output.
        normalize_qk: this and the next four as in `gated_delta_rule`.
        A_log: ``[HV]``.
        dt_bias: ``[HV]``.
        gate_scale: multiplier of both raw gates.
        beta_range: range of beta.
        inplace: write the new state into ``state`` and return that; otherwise ``state`` stays as it was.
        impl: the backend, by name; only ``torch`` and ``reference`` are differentiable.

    Returns:
        The output ``[B, HV, V]`` and the new state.

    Raises:
        ValueError: a shape, type, device or stride does not fit; values are not read.
        BackendUnavailable: the backend does not exist or cannot run here.
        BackendRefusal: both of these: the backend does not serve such a call; the message names those that do.
    """
    arguments.check_step(q, k, v, g, beta, state, A_log=A_log, dt_bias=dt_bias, beta_range=beta_range)
    backward = arguments.wants_gradients(q, k, v, g, beta, state, A_log, dt_bias)
    backend = backends.serving("gated_delta", "gated_delta_rule_step", impl, q, k, v, backward=backward)
    raw = _activation(normalize_qk, A_log, dt_bias, gate_scale, beta_range)
    if not getattr(backend, "FUSED", False):
        q, k, g, beta = arguments.activate(q, k, g, beta, **raw)
        output, new = backend.gated_delta_rule_step(q, k, v, g, beta, state, scale=scale)
        return output, state.copy_(new) if inplace else new
    if backward:
        raise backends.BackendRefusal(f"impl: the step of {impl!r} has no gradient; call it under torch.no_grad()")
    state = state if inplace else state.clone(memory_format=torch.contiguous_format)
    return backend.gated_delta_rule_step(q, k, v, g, beta, state, scale=scale, **raw), state


def _activation(
    normalize_qk: bool, A_log: Tensor | None, dt_bias: Tensor | None, gate_scale: float, beta_range: float | None
) -> dict[str, Any]:
    return {
        "normalize_qk": normalize_qk,
        "A_log": A_log,
        "dt_bias": dt_bias,
        "gate_scale": gate_scale,
        "beta_range": beta_range,
    }
