"""The definition: one token after another, each the sum over its last W inputs (any float type, any device)."""

import torch
from torch import Tensor

from gdnbench_kernels.short_convolution.sequences import by_sequence


@by_sequence
def short_convolution(x: Tensor, weight: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Shift every token into the window of the last W inputs; see `short_convolution.api.short_convolution`."""
    outputs = []
    for t in range(x.shape[1]):
        window = torch.cat([state, x[:, t : t + 1]], 1)
        outputs.append(torch.einsum("bwd,dw->bd", window, weight))
        state = window[:, 1:]
    return torch.stack(outputs, 1), state
