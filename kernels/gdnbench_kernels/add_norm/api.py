"""Arguments, checks and shapes of a residual sum and its RMS norm (Zhang, Sennrich: Root Mean Square Layer Norm)."""

from torch import Tensor

from gdnbench_kernels import backends, checks


def add_norm(x: Tensor, y: Tensor, weight: Tensor, *, eps: float = 1e-5, impl: str = "torch") -> tuple[Tensor, Tensor]:
    """Return ``s = x + y`` and ``s / sqrt(mean(s^2) + eps) * weight``, the mean by row; differentiable.

    Args:
        x: the residual stream ``[..., D]``.
        y: what is added to it, of the shape of ``x``.
        weight: ``[D]``.
        eps: added to the mean.
        impl: the backend, by name (`gdnbench_kernels.backends.names("add_norm")`).

    Returns:
        The sum in the type of ``x``, and the norm of what it was rounded to, in the type of ``y``.

    Raises:
        ValueError: a shape, type or device does not fit; the message names the argument.
        BackendUnavailable: the backend does not exist or cannot run here.
        BackendRefusal: both of these: the backend does not serve such a call; the message names those that do.
    """
    if x.ndim < 1 or x.numel() < 1:
        raise ValueError(f"x: expected at least one row [..., D], got {list(x.shape)}")
    if y.shape != x.shape:
        raise ValueError(f"y: expected shape {list(x.shape)}, that of x, got {list(y.shape)}")
    checks.shape("weight", weight, x.shape[-1])
    checks.same_device_and_kind(x=x, y=y, weight=weight)
    checks.same_type(x=x, y=y, weight=weight)
    backend = backends.serving("add_norm", "add_norm", impl, x, y, weight)
    found: tuple[Tensor, Tensor] = backend.add_norm(x, y, weight, eps=eps)
    return found
