"""Arguments, checks and shapes of Mamba-2's recurrence (Dao, Gu: Transformers are SSMs, eq. 3 with A scalar)."""

import torch
from torch import Tensor

from gdnbench_kernels import backends, checks


def ssd(
    c: Tensor,
    b: Tensor,
    x: Tensor,
    g: Tensor,
    dt: Tensor,
    *,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    impl: str = "torch",
) -> tuple[Tensor, Tensor | None]:
    """Run ``S_t = e^{g_t} S_{t-1} + dt_t b_t x_t^T``, ``y_t = S_t^T c_t``; differentiable in every tensor.

    Args:
        c: readout vectors ``[B, T, G, K]`` (K is Mamba's state size); H is a multiple of the G groups.
        b: input vectors ``[B, T, G, K]``.
        x: values ``[B, T, H, V]`` (V is Mamba's head dim).
        g: log decay ``dt * A`` ``[B, T, H]``, at most 0.
        dt: step size ``[B, T, H]``.
        initial_state: ``[B, H, K, V]``; None is zero.
        output_final_state: whether the state after the last token is returned.
        impl: the backend, by name.

    Returns:
        The output ``[B, T, H, V]`` and the final state ``[B, H, K, V]`` or None.

    Raises:
        ValueError: a shape, dtype or device does not fit; the message names the argument.
        BackendUnavailable: the backend does not exist or cannot run here.
        BackendRefusal: both of these: the backend does not serve such a call; the message names those that do.
    """
    if c.ndim != 4 or x.ndim != 4:
        raise ValueError(f"c and x: expected 4 dimensions [B, T, H, D], got {list(c.shape)} and {list(x.shape)}")
    batch, time, groups, key_dim = c.shape
    heads, value_dim = x.shape[2:]
    if batch < 1 or time < 1:
        raise ValueError(f"c: expected at least one sequence of one token, got {list(c.shape)}")
    checks.multiple("heads of x", heads, groups, "groups of c")
    checks.shape("b", b, batch, time, groups, key_dim)
    checks.shape("x", x, batch, time, heads, value_dim)
    checks.shape("g", g, batch, time, heads)
    checks.shape("dt", dt, batch, time, heads)
    if initial_state is not None:
        checks.shape("initial_state", initial_state, batch, heads, key_dim, value_dim)
    checks.same_device_and_kind(c=c, b=b, x=x, g=g, dt=dt, initial_state=initial_state)
    checks.same_type(c=c, b=b)
    backend = backends.serving("ssd", "ssd", impl, c, b, x, g, dt)
    settings = {"initial_state": initial_state, "output_final_state": output_final_state}
    output: tuple[Tensor, Tensor | None] = backend.ssd(c, b, x, g, dt, **settings)
    return output


def ssd_step(c: Tensor, b: Tensor, x: Tensor, g: Tensor, dt: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Advance the recurrence of `ssd` by one token; shapes are those of `ssd` without T."""
    group = x.shape[1] // c.shape[1]
    c, b = c.repeat_interleave(group, 1), b.repeat_interleave(group, 1)
    written = b[..., :, None] * (dt[..., None] * x)[..., None, :]
    state = g.exp()[..., None, None] * state + written
    return torch.einsum("bhk,bhkv->bhv", c, state), state
