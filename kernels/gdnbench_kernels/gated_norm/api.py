"""Arguments, checks and shapes of the gated norm (Yang, Kautz, Hatamizadeh: Gated Delta Networks, figure 1)."""

from torch import Tensor

from gdnbench_kernels import backends, checks


def gated_norm(x: Tensor, z: Tensor, weight: Tensor, *, eps: float = 1e-5, impl: str = "torch") -> Tensor:
    """Return ``x / sqrt(mean(x^2) + eps) * weight * silu(z)``, the mean over the last dimension; differentiable.

    Args:
        x: ``[..., V]``, any strides but a contiguous last dim, as z: both may be slices of a wider projection.
        z: the gate, of the shape of ``x``.
        weight: ``[V]``.
        eps: added to the mean.
        impl: the backend, by name (`gdnbench_kernels.backends.names("gated_norm")`).

    Returns:
        The output, of the shape and type of ``x``.

    Raises:
        ValueError: a shape, type, device or stride does not fit; the message names the argument.
        BackendUnavailable: the backend does not exist or cannot run here.
        BackendRefusal: both of these: the backend does not serve such a call; the message names those that do.
    """
    if x.ndim < 1 or x.numel() < 1:
        raise ValueError(f"x: expected at least one row [..., V], got {list(x.shape)}")
    if z.shape != x.shape:
        raise ValueError(f"z: expected shape {list(x.shape)}, that of x, got {list(z.shape)}")
    checks.shape("weight", weight, x.shape[-1])
    checks.same_device_and_kind(x=x, z=z, weight=weight)
    checks.same_type(x=x, z=z, weight=weight)
    checks.contiguous_rows(x=x, z=z)
    backend = backends.serving("gated_norm", "gated_norm", impl, x, z, weight)
    y: Tensor = backend.gated_norm(x, z, weight, eps=eps)
    return y
