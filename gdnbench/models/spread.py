"""Spreading the decays and step sizes of the heads over a range, evenly or at random."""

import math

import torch
from torch import Tensor


def spread(count: int, interval: tuple[float, float], rng: torch.Generator, *, random: bool = False) -> Tensor:
    """Return ``count`` numbers in the interval: the midpoints of equal strata in random order, or uniform draws.

    Strata take away most of the noise between seeds that few heads would bring.
    """
    low, high = interval
    if random:
        return low + (high - low) * torch.rand(count, generator=rng)
    return low + (high - low) * ((torch.arange(count) + 0.5) / count)[torch.randperm(count, generator=rng)]


def log_spread(count: int, interval: tuple[float, float], rng: torch.Generator, *, random: bool = False) -> Tensor:
    """Return `spread` on a logarithmic scale."""
    low, high = interval
    return spread(count, (math.log(low), math.log(high)), rng, random=random).exp()


def inverse_softplus(x: Tensor) -> Tensor:
    """Return y with ``softplus(y) = x > 0``."""
    return x + torch.log(-torch.expm1(-x))
