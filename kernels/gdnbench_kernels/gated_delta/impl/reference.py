"""The definition: one token after another, in float32 or the wider type of the inputs."""

import torch
from torch import Tensor

from gdnbench_kernels.gated_delta.packed import by_sequence
from gdnbench_kernels.precision import in_full_precision


@in_full_precision
@by_sequence
def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, *, scale: float, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Advance the recurrence by every token; see `gated_delta.api.gated_delta_rule`."""
    batch, time, _, key_dim = q.shape
    state = v.new_zeros(batch, v.shape[2], key_dim, v.shape[3]) if initial_state is None else initial_state
    outputs = []
    for t in range(time):
        output, state = _advance(q[:, t], k[:, t], v[:, t], g[:, t], beta[:, t], state, scale=scale)
        outputs.append(output)
    return torch.stack(outputs, 1), state


def _advance(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor, *, scale: float
) -> tuple[Tensor, Tensor]:
    group = v.shape[1] // q.shape[1]
    q, k = q.repeat_interleave(group, 1), k.repeat_interleave(group, 1)
    decayed = g.exp()[..., None, None] * state
    recalled = torch.einsum("bhk,bhkv->bhv", k, decayed)
    delta = beta[..., None] * (v - recalled)
    state = decayed + k[..., :, None] * delta[..., None, :]
    return scale * torch.einsum("bhk,bhkv->bhv", q, state), state


@in_full_precision
def gated_delta_rule_step(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor, *, scale: float
) -> tuple[Tensor, Tensor]:
    """Advance the recurrence by one token; see `gated_delta.api.gated_delta_rule_step`."""
    return _advance(q, k, v, g, beta, state, scale=scale)
