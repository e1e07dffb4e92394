"""The last inputs of a short convolution as a ring: a token takes the place of the oldest, and nothing is moved.

The input of position p of a row lies in slot ``p % size`` of its ring ``[size, C]``; what was before the row's first
token is zero. A step so writes one slot and reads the others, whoever else reads them at that time.
"""

from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional as F

from gdnbench_kernels import checks


def push(ring: Tensor, lengths: Tensor, x: Tensor) -> Tensor:
    """Write each row's next input ``x [B, C]`` into ``ring [B, size, C]``.

    Args:
        ring: written in place.
        lengths: integers ``[B]``: inputs that each row has seen before this one.
        x: in the type of ``ring``.

    Returns:
        The last ``size`` inputs of each row ``[B, size, C]``, the oldest first.
    """
    places = _places(ring, lengths, ring.shape[1])
    ring.scatter_(1, places[:, -1:], x[:, None])
    return ring.gather(1, places)


def load(ring: Tensor, lengths: Tensor, tail: Tensor) -> None:
    """Fill ``ring [B, size, C]`` of rows that have seen ``lengths`` inputs with the last ones, the oldest first.

    Args:
        ring: written in place.
        lengths: integers ``[B]``.
        tail: ``[B, size - 1, C]``, zero before a row's first input.
    """
    ring.scatter_(1, _places(ring, lengths, ring.shape[1] - 1), tail.to(ring))


def unload(ring: Tensor, lengths: Tensor) -> Tensor:
    """Return the last ``size - 1`` inputs ``[B, size - 1, C]`` as `load` takes them."""
    return ring.gather(1, _places(ring, lengths, ring.shape[1] - 1))


def convolve_next(x: Tensor, weight: Tensor, bias: Tensor | None, ring: Tensor, lengths: Tensor) -> Tensor:
    """Return ``silu(bias + sum_j weight_j x_{t - (size - 1) + j})`` of the next input, in float32 or wider.

    Args:
        x: ``[B, C]``; `push` takes it into ``ring``.
        weight: ``[C, size]``, the current input's tap last.
        bias: ``[C]``.
        ring: ``[B, size, C]``, written in place.
        lengths: integers ``[B]``: inputs seen before this one.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    total = (push(ring, lengths, x).to(wide) * weight.t().to(wide)).sum(1)
    return F.silu(total if bias is None else total + bias.to(wide))


def check(
    x: Tensor, weight: Tensor, bias: Tensor | None, ring: Tensor, lengths: Tensor, *, channels: Collection[int]
) -> None:
    """Raise `ValueError` for the first argument that does not fit a step of a convolution of the first channels of x.

    Args:
        x: ``[B, any]``, checked by the caller.
        weight: ``[C, size]``.
        bias: ``[C]`` or None.
        ring: ``[B, size, C]``.
        lengths: int32 ``[B]``.
        channels: what C may be.
    """
    if weight.ndim != 2 or len(weight) not in channels or weight.shape[1] < 1:
        wanted = " or ".join(map(str, channels))
        raise ValueError(f"weight: expected shape [{wanted}, at least 1], got {list(weight.shape)}")
    if bias is not None:
        checks.shape("bias", bias, len(weight))
    checks.shape("ring", ring, len(x), weight.shape[1], len(weight))
    checks.shape("lengths", lengths, len(x))
    checks.same_device_and_kind(x=x, weight=weight, bias=bias, ring=ring)
    checks.same_type(x=x, weight=weight, bias=bias)
    if ring.dtype != x.dtype:
        raise ValueError(f"ring: {ring.dtype}, but x, whose rows it takes, is {x.dtype}")
    if lengths.dtype != torch.int32 or lengths.device != x.device:
        raise ValueError(f"lengths: {lengths.dtype} on {lengths.device}, wants torch.int32 on {x.device} as x")
    checks.contiguous(ring=ring, lengths=lengths)


def _places(ring: Tensor, lengths: Tensor, count: int) -> Tensor:
    """Return the index ``[B, count, C]`` of the slots of positions ``lengths + 1 - size`` on, for a gather."""
    size = ring.shape[1]
    offsets = torch.arange(1, count + 1, device=ring.device)
    slots = (lengths.long()[:, None] + offsets) % size
    return slots[:, :, None].expand(-1, -1, ring.shape[2])
