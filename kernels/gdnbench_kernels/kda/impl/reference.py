"""The definition: one token after another, in float32 or the wider type of the inputs."""

import torch
from torch import Tensor

from gdnbench_kernels.kda.api import kda_step
from gdnbench_kernels.precision import in_full_precision


@in_full_precision
def kda(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, *, scale: float, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Apply `kda_step` to every token; see `kda.api.kda`."""
    batch, time, heads, key_dim = q.shape
    state = v.new_zeros(batch, heads, key_dim, v.shape[3]) if initial_state is None else initial_state
    outputs = []
    for t in range(time):
        output, state = kda_step(q[:, t], k[:, t], v[:, t], g[:, t], beta[:, t], state, scale=scale)
        outputs.append(output)
    return torch.stack(outputs, 1), state
