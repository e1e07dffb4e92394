"""The definition: one token after another, in float32 or the wider type of the inputs."""

import torch
from torch import Tensor

from gdnbench_kernels.precision import in_full_precision
from gdnbench_kernels.ssd.api import ssd_step


@in_full_precision
def ssd(
    c: Tensor, b: Tensor, x: Tensor, g: Tensor, dt: Tensor, *, initial_state: Tensor | None, output_final_state: bool
) -> tuple[Tensor, Tensor | None]:
    """Apply `ssd_step` to every token; see `ssd.api.ssd`."""
    batch, time, heads, value_dim = x.shape
    state = x.new_zeros(batch, heads, c.shape[3], value_dim) if initial_state is None else initial_state
    outputs = []
    for t in range(time):
        output, state = ssd_step(c[:, t], b[:, t], x[:, t], g[:, t], dt[:, t], state)
        outputs.append(output)
    return torch.stack(outputs, 1), state if output_final_state else None
