"""One product for each tap, over all tokens at once, in plain PyTorch (any float type, any device)."""

import functools
import operator

import torch
from torch import Tensor

from gdnbench_kernels.short_convolution.sequences import by_sequence


@by_sequence
def short_convolution(x: Tensor, weight: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Sum shifted copies of the inputs; see `short_convolution.api.short_convolution`."""
    length = x.shape[1]
    x = torch.cat([state, x], 1)
    taps = (x[:, j : j + length] * weight[:, j] for j in range(weight.shape[1]))
    return functools.reduce(operator.add, taps), x[:, length:]
