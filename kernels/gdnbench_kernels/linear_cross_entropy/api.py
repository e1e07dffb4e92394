"""Arguments, checks and shapes of the linear cross entropy: a language model's last projection and its loss."""

import math

import torch
from torch import Tensor

from gdnbench_kernels import backends, checks

IGNORED = -100  # a target that does not count, as PyTorch's cross_entropy has it


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    scale: float = 1.0,
    chunk_size: int | None = None,
    impl: str = "torch",
) -> Tensor:
    """Return the mean over tokens of ``-log softmax(scale * x weight^T)[target]``.

    Differentiable in x and weight, once. Under autocast, x is taken in its type. Products are in the type of ``x``,
    sums and the softmax in float32 or wider.

    Args:
        x: ``[N, D]``, a contiguous last dim.
        weight: ``[V, D]``, in the type of ``x`` or in float32 (a master copy): its gradient is summed in float32 and
            returned in this type.
        targets: ``[N]``, int64: from 0 to V - 1, or -100 for a token that does not count.
        scale: factor of the logits, above 0.
        chunk_size: tokens whose logits exist at a time; None for as many as `chunked.LOGITS_BYTES` hold. Backends that
            know no chunks, or choose their own, refuse it.
        impl: the backend, by name (`gdnbench_kernels.backends.names("linear_cross_entropy")`).

    Returns:
        The loss in nats, a float32 (or wider) scalar; NaN where no target counts. A target out of range makes it NaN on
        a GPU, where targets cannot be read without waiting, and is an error on a CPU.

    Raises:
        ValueError: an argument does not fit; the message names it, what it got and what it wants.
        BackendUnavailable: the backend does not exist or cannot run here.
        BackendRefusal: both of these: the backend does not serve such a call; the message names those that do.
    """
    x = _checked(x, weight, targets, scale, chunk_size)
    backend = backends.serving(
        "linear_cross_entropy", "linear_cross_entropy", impl, x, weight, targets, chunk_size=chunk_size
    )
    total: Tensor = backend.linear_cross_entropy(x, weight, targets, scale=float(scale), chunk_size=chunk_size)
    return total / (targets != IGNORED).sum()


@torch.no_grad()
def linear_cross_entropy_scores(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    scale: float = 1.0,
    chunk_size: int | None = None,
    impl: str = "torch",
) -> Tensor:
    """Return ``-log softmax(scale * x weight^T)[target]`` by token: ``[N]`` in float32 or wider, without gradients.

    Tokens that do not count have 0. Arguments and errors are those of `linear_cross_entropy`.
    """
    x = _checked(x, weight, targets, scale, chunk_size)
    backend = backends.serving(
        "linear_cross_entropy", "linear_cross_entropy_scores", impl, x, weight, targets, chunk_size=chunk_size
    )
    scores: Tensor = backend.linear_cross_entropy_scores(x, weight, targets, scale=float(scale), chunk_size=chunk_size)
    return scores


def _checked(x: Tensor, weight: Tensor, targets: Tensor, scale: float, chunk_size: int | None) -> Tensor:
    """Raise `ValueError` where an argument does not fit; return ``x`` in the type that products have."""
    if x.ndim != 2 or weight.ndim != 2:
        raise ValueError(f"x and weight: expected [N, D] and [V, D], got {list(x.shape)} and {list(weight.shape)}")
    if x.numel() < 1 or weight.numel() < 1:
        sizes = f"{list(x.shape)} and {list(weight.shape)}"
        raise ValueError(f"x and weight: expected at least one token, feature and word, got {sizes}")
    checks.shape("weight", weight, None, x.shape[1])
    checks.shape("targets", targets, x.shape[0])
    checks.same_device_and_kind(x=x, weight=weight)
    checks.same_type(x=x, weight=weight)
    checks.contiguous_rows(x=x)
    if targets.dtype != torch.int64 or targets.device != x.device:
        raise ValueError(f"targets: expected int64 on {x.device}, got {targets.dtype} on {targets.device}")
    if not 0 < scale < math.inf:
        raise ValueError(f"scale: {scale}, wants a number above 0")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size: {chunk_size}, wants at least 1 token, or None")
    x = _as_autocast_has_it(x)
    if weight.dtype not in (x.dtype, torch.float32):
        raise ValueError(f"weight: {weight.dtype}, wants torch.float32 or the type of x, {x.dtype}")
    if x.is_cpu and checks.may_read(targets):
        _check_range(targets, weight.shape[0])
    return x


def _as_autocast_has_it(x: Tensor) -> Tensor:
    kind = x.device.type
    if x.dtype is torch.float64 or not torch.is_autocast_enabled(kind):
        return x
    return x.to(torch.get_autocast_dtype(kind))


def _check_range(targets: Tensor, words: int) -> None:
    wrong = targets[(targets != IGNORED) & ((targets < 0) | (targets >= words))]
    if wrong.numel():
        raise ValueError(f"targets: {int(wrong[0])}, wants 0 to {words - 1} (V - 1), or {IGNORED}")
