"""The chunked form in plain PyTorch: parallel inside a chunk, recurrent across chunks (any float type, any device)."""

import torch
from torch import Tensor

from gdnbench_kernels import chunks
from gdnbench_kernels.gated_delta.impl.reference import gated_delta_rule_step as gated_delta_rule_step  # no chunk in it
from gdnbench_kernels.gated_delta.packed import by_sequence
from gdnbench_kernels.precision import in_full_precision

CHUNK_SIZE = 64


@in_full_precision
@by_sequence
def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, *, scale: float, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run the WY form of the recurrence; see `gated_delta.api.gated_delta_rule`.

    With ``G`` the cumulative log decay in a chunk and ``D_ij = exp(G_i - G_j)``, the values that the chunk writes
    are ``delta = (I + A)^-1 (beta (v - e^G k S))`` where ``A = tril(beta k k^T * D, -1)`` and ``S`` is the state at
    its start (Gated Delta Networks, section 3.3; here by a triangular solve, so that no inverse is formed).
    """
    length, group = q.shape[1], v.shape[2] // q.shape[2]
    size = min(CHUNK_SIZE, length)
    q, k = q.repeat_interleave(group, 2), k.repeat_interleave(group, 2)
    q, k, v = (chunks.split(x, size) for x in (scale * q, k, v))
    g, beta = chunks.split(g, size).cumsum(-1), chunks.split(beta, size)[..., None]
    decay = chunks.causal_decay(g)
    from_start, total = g.exp()[..., None], g[..., -1]
    to_end = (total[..., None] - g).exp()[..., None]

    interaction = (beta * (k @ k.mT) * decay).tril(-1)
    attention = (q @ k.mT) * decay
    # Solve for both right-hand sides at once: the values, and the keys that meet the state at the chunk's start.
    solved = chunks.solve_unit_lower(interaction, torch.cat([beta * v, beta * from_start * k], -1))
    values, keys = solved.split([v.shape[-1], k.shape[-1]], -1)
    queries, writers, total = from_start * q, to_end * k, total.exp()[..., None, None]

    state = initial_state
    outputs = []
    for n in range(q.shape[2]):
        if state is None:
            delta = values[:, :, n]
            outputs.append(attention[:, :, n] @ delta)
            state = writers[:, :, n].mT @ delta
        else:
            delta = values[:, :, n] - keys[:, :, n] @ state
            outputs.append(queries[:, :, n] @ state + attention[:, :, n] @ delta)
            state = total[:, :, n] * state + writers[:, :, n].mT @ delta
    assert state is not None
    return chunks.join(torch.stack(outputs, 2), length), state
