"""Cutting a sequence into chunks: the layout that every chunked form shares."""

import torch
from torch import Tensor
from torch.nn import functional as F


def split(x: Tensor, chunk_size: int) -> Tensor:
    """Return ``[B, T, H, ...]`` as ``[B, H, N, C, ...]``, zero-padded in time to a whole number of chunks."""
    padding = -x.shape[1] % chunk_size
    if padding:
        x = F.pad(x, (0, 0) * (x.ndim - 2) + (0, padding))
    batch, time, heads = x.shape[:3]
    return x.reshape(batch, time // chunk_size, chunk_size, heads, *x.shape[3:]).movedim(3, 1)


def join(x: Tensor, length: int) -> Tensor:
    """Return ``[B, H, N, C, V]`` as ``[B, T, H, V]``, without the padding beyond ``length``."""
    batch, heads, chunks, size, value_dim = x.shape
    return x.movedim(1, 3).reshape(batch, chunks * size, heads, value_dim)[:, :length]


def causal_decay(log_decay: Tensor) -> Tensor:
    """Return ``exp(G_i - G_j)`` for ``i >= j``, else 0, from cumulative log decays ``G [..., C]``.

    The difference is masked before the exponential: above the diagonal it is positive and may overflow.
    """
    size = log_decay.shape[-1]
    future = torch.ones(size, size, dtype=torch.bool, device=log_decay.device).triu(1)
    difference = log_decay[..., :, None] - log_decay[..., None, :]
    return difference.masked_fill(future, -torch.inf).exp()


def solve_unit_lower(strictly_lower: Tensor, right: Tensor) -> Tensor:
    """Return ``(I + A)^-1 right`` for strictly lower triangular ``A [..., C, C]`` by forward substitution."""
    return torch.linalg.solve_triangular(strictly_lower, right, upper=False, unitriangular=True)
