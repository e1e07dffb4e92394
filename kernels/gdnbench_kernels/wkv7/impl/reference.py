"""The definition: one token after another, in float32 or the wider type of the inputs."""

import torch
from torch import Tensor

from gdnbench_kernels.precision import in_full_precision
from gdnbench_kernels.wkv7.api import wkv7_step


@in_full_precision
def wkv7(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, *, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Apply `wkv7_step` to every token; see `wkv7.api.wkv7`."""
    batch, time, heads, key_dim = r.shape
    state = v.new_zeros(batch, heads, key_dim, v.shape[3]) if initial_state is None else initial_state
    outputs = []
    for t in range(time):
        output, state = wkv7_step(r[:, t], w[:, t], k[:, t], v[:, t], a[:, t], b[:, t], state)
        outputs.append(output)
    return torch.stack(outputs, 1), state
