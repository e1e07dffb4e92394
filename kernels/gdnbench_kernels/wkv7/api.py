"""Arguments, checks and shapes of RWKV-7's recurrence (Peng et al.: RWKV-7 "Goose", eq. 17, transposed)."""

import torch
from torch import Tensor

from gdnbench_kernels import backends, checks


def wkv7(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    *,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    impl: str = "torch",
) -> tuple[Tensor, Tensor | None]:
    """Run ``S_t = diag(e^{w_t}) S_{t-1} + b_t (a_t^T S_{t-1}) + k_t v_t^T``, ``o_t = S_t^T r_t``.

    RWKV-7 has ``a = -kappa_hat`` (the normalized removal key) and ``b = kappa_hat * eta`` (eta is the in-context
    learning rate).

    Args:
        r: receptance ``[B, T, H, K]``.
        w: log decay by channel ``[B, T, H, K]``, at most 0; in RWKV-7 at least ``-e^-0.5``. Chunked forms
            take -1.25 at least (backend torch; checked on a CPU), or -2.6 (fla; not checked).
        k: replacement keys ``[B, T, H, K]``.
        v: values ``[B, T, H, V]``.
        a: removal keys ``[B, T, H, K]``.
        b: what is written for the removed ``[B, T, H, K]``.
        initial_state: ``[B, H, K, V]``; None is zero.
        output_final_state: whether the state after the last token is returned.
        impl: the backend, by name.

    Returns:
        The output ``[B, T, H, V]`` and the final state ``[B, H, K, V]`` or None.

    Raises:
        ValueError: a shape, dtype or device does not fit; the message names the argument.
        BackendUnavailable: the backend does not exist or cannot run here, or (`BackendRefusal`) does not serve this.
    """
    if r.ndim != 4 or v.ndim != 4:
        raise ValueError(f"r and v: expected 4 dimensions [B, T, H, D], got {list(r.shape)} and {list(v.shape)}")
    batch, time, heads, key_dim = r.shape
    if batch < 1 or time < 1:
        raise ValueError(f"r: expected at least one sequence of one token, got {list(r.shape)}")
    for name, x in {"w": w, "k": k, "a": a, "b": b}.items():
        checks.shape(name, x, batch, time, heads, key_dim)
    checks.shape("v", v, batch, time, heads, None)
    if initial_state is not None:
        checks.shape("initial_state", initial_state, batch, heads, key_dim, v.shape[3])
    checks.same_device_and_kind(r=r, w=w, k=k, v=v, a=a, b=b, initial_state=initial_state)
    checks.same_type(r=r, w=w, k=k, v=v, a=a, b=b)
    backend = backends.serving("wkv7", "wkv7", impl, r, w, k, v, a, b)
    output, state = backend.wkv7(r, w, k, v, a, b, initial_state=initial_state)
    return output, state if output_final_state else None


def wkv7_step(r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Advance the recurrence of `wkv7` by one token; shapes are those of `wkv7` without T."""
    removed = torch.einsum("bhk,bhkv->bhv", a, state)
    state = w.exp()[..., None] * state + b[..., None] * removed[..., None, :] + k[..., None] * v[..., None, :]
    return torch.einsum("bhk,bhkv->bhv", r, state), state
