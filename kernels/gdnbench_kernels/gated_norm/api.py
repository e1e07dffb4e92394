"""Arguments, checks and shapes of the gated norm, as GDN (Yang, Kautz, Hatamizadeh: Gated Delta Networks, figure 1) and
as Mamba-2 has it (Dao, Gu: Transformers are SSMs, arXiv 2405.21060, section 7)."""

from torch import Tensor

from gdnbench_kernels import backends, checks


def gated_norm(
    x: Tensor,
    z: Tensor,
    weight: Tensor,
    *,
    eps: float = 1e-5,
    gate_first: bool = False,
    skipped: Tensor | None = None,
    skip: Tensor | None = None,
    impl: str = "torch",
) -> Tensor:
    """Return ``x / sqrt(mean(x^2) + eps) * weight * silu(z)``, the mean over the last dimension; differentiable.

    With ``gate_first``, ``x silu(z)`` is what is normalized and weighed. With ``skipped``, ``x + skip skipped`` takes
    the place of ``x``.

    Args:
        x: ``[..., V]``, any strides but a contiguous last dim, as z and skipped: they may be slices of a wider
            projection.
        z: the gate, of the shape of ``x``.
        weight: ``[V]``.
        eps: added to the mean.
        gate_first: whether the gate comes before the norm (Mamba-2) or after it (GDN).
        skipped: what went around a recurrence that put out ``x``, of the shape of ``x``; only with ``gate_first``.
        skip: its factors by head ``[H]``, each for V / H channels.
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
    around = _around(x, gate_first, skipped, skip)
    checks.same_device_and_kind(x=x, z=z, weight=weight, **around)
    checks.same_type(x=x, z=z, weight=weight, **around)
    checks.contiguous_rows(x=x, z=z)
    backend = backends.serving("gated_norm", "gated_norm", impl, x, z, weight)
    y: Tensor = backend.gated_norm(x, z, weight, eps=eps, gate_first=gate_first, **around)
    return y


def _around(x: Tensor, gate_first: bool, skipped: Tensor | None, skip: Tensor | None) -> dict[str, Tensor | None]:
    """Return both arguments of the skip by name; raise unless there are both or neither, and they fit."""
    if skipped is None and skip is None:
        return {"skipped": None, "skip": None}
    if skipped is None or skip is None:
        raise ValueError(f"{'skipped' if skipped is None else 'skip'}: expected a tensor, as the other of both is one")
    if not gate_first:
        raise ValueError("skipped: only with gate_first")
    if skipped.shape != x.shape:
        raise ValueError(f"skipped: expected shape {list(x.shape)}, that of x, got {list(skipped.shape)}")
    checks.contiguous_rows(skipped=skipped)
    if skip.ndim != 1 or not len(skip) or x.shape[-1] % len(skip):
        raise ValueError(f"skip: expected [H], V = {x.shape[-1]} a multiple of H, got {list(skip.shape)}")
    return {"skipped": skipped, "skip": skip}
