"""The arguments of the gated delta rule: how they are checked, and how raw ones become what the recurrence takes.

A backend's functions come in two kinds (`gdnbench_kernels.backends`), told apart by its attribute ``FUSED``. Without
it, they are called with activated arguments (`activate`), all of one device and checked:

    gated_delta_rule(q, k, v, g, beta, *, scale, initial_state, cu_seqlens) -> (o, final state)
    gated_delta_rule_step(q, k, v, g, beta, state, *, scale) -> (o, new state)

With ``FUSED = True`` they take the caller's arguments raw, and the step writes ``state`` in place:

    gated_delta_rule(q, k, v, g, beta, *, scale, initial_state, output_final_state, cu_seqlens,
                     normalize_qk, A_log, dt_bias, gate_scale, beta_range) -> (o, final state or None)
    gated_delta_rule_step(q, k, v, g, beta, state, *, scale,
                          normalize_qk, A_log, dt_bias, gate_scale, beta_range) -> o

``refuses(q, k, v, *, backward)``, where there is one, judges calls of both; ``backward`` tells whether autograd will
want gradients. A backend without a step leaves it out. States are ``[sequences, HV, K, V]``, final ones in float32 or
wider.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gdnbench_kernels import checks
from gdnbench_kernels.precision import HALF

NORM_EPS = 1e-6
KEY_DIMS, VALUE_DIMS, DIM_MULTIPLE = (16, 256), (16, 512), 8


def activate(
    q: Tensor,
    k: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    normalize_qk: bool = False,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    gate_scale: float = 1.0,
    beta_range: float | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ``q``, ``k``, the log decay and beta as the recurrence takes them; differentiable.

    What is switched off comes back as it was; what is computed is in float32, or in float64 for float64.
    """
    if normalize_qk:
        q, k = normalize(q), normalize(k)
    return q, k, log_decay(g, A_log, dt_bias, gate_scale), strength(beta, beta_range, gate_scale)


def normalize(x: Tensor) -> Tensor:
    """Return ``x rsqrt(sum(x^2) + 1e-6)`` over the last dimension; zero stays zero."""
    x = _wide(x)
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + NORM_EPS)


def log_decay(g: Tensor, A_log: Tensor | None, dt_bias: Tensor | None, gate_scale: float) -> Tensor:
    """Return ``-exp(A_log) softplus(gate_scale g + dt_bias)``, or ``g`` itself where there is no ``A_log``."""
    if A_log is None or dt_bias is None:
        return g
    return -_wide(A_log).exp() * F.softplus(gate_scale * _wide(g) + _wide(dt_bias))


def strength(beta: Tensor, beta_range: float | None, gate_scale: float) -> Tensor:
    """Return ``beta_range sigmoid(gate_scale beta)``, or ``beta`` itself where there is no range."""
    return beta if beta_range is None else beta_range * (gate_scale * _wide(beta)).sigmoid()


def check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    A_log: Tensor | None,
    dt_bias: Tensor | None,
    beta_range: float | None,
    validate: bool,
) -> None:
    """Raise `ValueError` for the first argument of `gated_delta_rule` that does not fit.

    Shapes, types, devices and strides always, from metadata. Values (log decay, beta, ``cu_seqlens``) only where
    reading them waits for no device, or where ``validate`` asks for it; never while a CUDA graph is captured or
    `torch.compile` traces.
    """
    if q.ndim != 4 or v.ndim != 4:
        raise ValueError(f"q and v: expected 4 dimensions [B, T, H, D], got {list(q.shape)} and {list(v.shape)}")
    batch, time, heads, key_dim = q.shape
    value_heads, value_dim = v.shape[2:]
    if batch < 1 or time < 1:
        raise ValueError(f"q: expected at least one sequence of one token, got {list(q.shape)}")
    sequences = batch if cu_seqlens is None else checks.packed_sequences(cu_seqlens, "q", q)
    checks.multiple("value heads of v", value_heads, heads, "heads of q")
    checks.shape("k", k, batch, time, heads, key_dim)
    checks.shape("v", v, batch, time, value_heads, value_dim)
    checks.shape("g", g, batch, time, value_heads)
    checks.shape("beta", beta, batch, time, value_heads)
    if initial_state is not None:
        checks.shape("initial_state", initial_state, sequences, value_heads, key_dim, value_dim)
        checks.contiguous_rows(initial_state=initial_state)
    _check_activation(value_heads, A_log, dt_bias, beta_range)
    checks.same_device_and_kind(
        q=q, k=k, v=v, g=g, beta=beta, initial_state=initial_state, A_log=A_log, dt_bias=dt_bias
    )
    checks.same_type(q=q, k=k, v=v, initial_state=initial_state)
    checks.contiguous_rows(q=q, k=k, v=v)
    if (q.is_cpu or validate) and checks.may_read(q):
        _check_values(None if A_log is not None else g, beta if beta_range is None else None, cu_seqlens, time)


def check_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    state: Tensor,
    *,
    A_log: Tensor | None,
    dt_bias: Tensor | None,
    beta_range: float | None,
) -> None:
    """Raise `ValueError` for the first argument of `gated_delta_rule_step` that does not fit, from metadata."""
    if q.ndim != 3 or v.ndim != 3:
        raise ValueError(f"q and v: expected 3 dimensions [B, H, D], got {list(q.shape)} and {list(v.shape)}")
    batch, heads, key_dim = q.shape
    value_heads, value_dim = v.shape[1:]
    if batch < 1:
        raise ValueError(f"q: expected at least one sequence, got {list(q.shape)}")
    checks.multiple("value heads of v", value_heads, heads, "heads of q")
    checks.shape("k", k, batch, heads, key_dim)
    checks.shape("v", v, batch, value_heads, value_dim)
    checks.shape("g", g, batch, value_heads)
    checks.shape("beta", beta, batch, value_heads)
    checks.shape("state", state, batch, value_heads, key_dim, value_dim)
    _check_activation(value_heads, A_log, dt_bias, beta_range)
    checks.same_device_and_kind(q=q, k=k, v=v, g=g, beta=beta, state=state, A_log=A_log, dt_bias=dt_bias)
    checks.same_type(q=q, k=k, v=v, state=state)
    checks.contiguous_rows(q=q, k=k, v=v, state=state)


def wants_gradients(*tensors: Tensor | None) -> bool:
    """Return whether autograd records a call with these arguments."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def beyond_head_dims(q: Tensor, v: Tensor, names: tuple[str, str] = ("q", "v")) -> str | None:
    """Return which head dim is out of the range of this package's GPU kernels, for a backend's ``refuses``."""
    sizes = ("K", q.shape[-1], KEY_DIMS), ("V", v.shape[-1], VALUE_DIMS)
    for name, (dim, size, (low, high)) in zip(names, sizes):
        if not low <= size <= high or size % DIM_MULTIPLE:
            return f"{name}: {dim} is {size}, wants a multiple of {DIM_MULTIPLE} from {low} to {high}"
    return None


def beyond_head_dim_128(q: Tensor, v: Tensor) -> str | None:
    """Return which head dim is not 128, the only one that some peers have, for a backend's ``refuses``."""
    for name, dim, size in (("q", "K", q.shape[-1]), ("v", "V", v.shape[-1])):
        if size != 128:
            return f"{name}: {dim} is {size}, wants 128"
    return None


def beyond_half_on_gpu(q: Tensor, k: Tensor, v: Tensor, names: tuple[str, str, str] = ("q", "k", "v")) -> str | None:
    """Return which of q, k, v is not in bfloat16 or float16, all of one type, on a GPU, for a backend's ``refuses``."""
    if not q.is_cuda:
        return f"{names[0]}: on {q.device}, wants a CUDA device"
    if q.dtype not in HALF:
        return f"{names[0]}: {q.dtype}, wants bfloat16 or float16"
    for name, x in zip(names[1:], (k, v)):
        if x.dtype != q.dtype:
            return f"{name}: {x.dtype}, wants {q.dtype} as {names[0]}"
    return None


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in HALF else x


def _check_activation(value_heads: int, A_log: Tensor | None, dt_bias: Tensor | None, beta_range: float | None) -> None:
    if A_log is not None and dt_bias is not None:
        checks.shape("A_log", A_log, value_heads)
        checks.shape("dt_bias", dt_bias, value_heads)
    elif A_log is not None or dt_bias is not None:
        given, absent = ("A_log", "dt_bias") if dt_bias is None else ("dt_bias", "A_log")
        raise ValueError(f"{absent}: None, but {given} is given; a raw gate wants both")
    if beta_range is not None and not 0 < beta_range <= 2:
        raise ValueError(f"beta_range: {beta_range}, wants more than 0 and at most 2")


def _check_values(g: Tensor | None, beta: Tensor | None, cu_seqlens: Tensor | None, time: int) -> None:
    """Check the log decay, beta and cu_seqlens that are given; a NaN passes, it is the computation's to show."""
    if g is not None and (largest := g.detach().max().item()) > 0:
        raise ValueError(f"g: a log decay of {largest:g}, wants at most 0 (or a raw gate, with A_log and dt_bias)")
    if beta is not None:
        low, high = (bound.item() for bound in beta.detach().aminmax())
        if low < 0 or high > 2:
            raise ValueError(f"beta: from {low:g} to {high:g}, wants 0 to 2 (or a raw gate, with beta_range)")
    if cu_seqlens is not None:
        checks.sequence_bounds(cu_seqlens, time)
