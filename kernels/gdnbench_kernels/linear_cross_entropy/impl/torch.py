"""A chunk of tokens at a time, in plain PyTorch (any float type, any device)."""

import torch
from torch import Tensor

from gdnbench_kernels.linear_cross_entropy import chunked
from gdnbench_kernels.linear_cross_entropy.api import IGNORED


def _rows(logits: Tensor, targets: Tensor, losses: Tensor, scale: float, gradient: bool) -> None:
    """Turn rows of logits into losses and gradients, in the type of ``losses``; see `chunked.Rows`."""
    counted = targets != IGNORED
    place = torch.arange(len(targets), device=targets.device), targets.where(counted, 0)
    logs = (scale * logits.to(losses.dtype)).log_softmax(-1)
    losses.copy_(-logs[place] * counted)
    if gradient:
        probabilities = logs.exp_()
        probabilities[place] -= 1
        logits.copy_(probabilities * counted[:, None])


_run = chunked.operator("gdnbench::linear_cross_entropy_in_torch", _rows)


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, *, scale: float, chunk_size: int | None) -> Tensor:
    """Return the sum of losses; see `linear_cross_entropy.api.linear_cross_entropy`."""
    return chunked.total(_run, x, weight, targets, scale, chunk_size)


def linear_cross_entropy_scores(
    x: Tensor, weight: Tensor, targets: Tensor, *, scale: float, chunk_size: int | None
) -> Tensor:
    """Return losses by token; see `linear_cross_entropy.api.linear_cross_entropy_scores`."""
    return _run(x, weight, targets, scale, chunk_size, False, False)[1]
