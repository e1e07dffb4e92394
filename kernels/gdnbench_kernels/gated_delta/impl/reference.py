"""The definition: one token after another, in float32 or the wider type of the inputs."""

import torch
from torch import Tensor

from gdnbench_kernels.gated_delta.api import gated_delta_rule_step
from gdnbench_kernels.precision import in_full_precision


@in_full_precision
def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, *, scale: float, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Apply `gated_delta_rule_step` to every token; see `gated_delta.api.gated_delta_rule`."""
    batch, time, _, key_dim = q.shape
    state = v.new_zeros(batch, v.shape[2], key_dim, v.shape[3]) if initial_state is None else initial_state
    outputs = []
    for t in range(time):
        output, state = gated_delta_rule_step(q[:, t], k[:, t], v[:, t], g[:, t], beta[:, t], state, scale=scale)
        outputs.append(output)
    return torch.stack(outputs, 1), state
