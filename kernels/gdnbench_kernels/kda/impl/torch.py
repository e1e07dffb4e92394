"""The chunked form in plain PyTorch: parallel inside a chunk, recurrent across chunks (any float type, any device)."""

import torch
from torch import Tensor

from gdnbench_kernels import chunks
from gdnbench_kernels.precision import in_full_precision

# Inside a chunk a key meets a query through what its channels decayed in between, e^{G_i - G_j}: C x C x K numbers,
# which are never above 1. Split as e^{G_i} e^{-G_j} they would be two matrices, but the second one overflows where a
# channel forgets quickly, and nothing bounds how quickly. So chunks are short.
CHUNK_SIZE = 16


@in_full_precision
def kda(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, *, scale: float, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run the recurrence by chunks; see `kda.api.kda`.

    With ``G`` the cumulative log decay in a chunk, what its tokens write for their keys is the solution ``u`` of
    ``(I + tril(beta A, -1)) u = beta (v - (k e^G) S)`` with ``A_ij = sum_c k_ic k_jc e^{G_ic - G_jc}``; its output is
    ``(q e^G) S + tril(A') u``, where ``A'`` has q in place of the first k.
    """
    length = q.shape[1]
    size = min(CHUNK_SIZE, length)
    q, k, v, g = (chunks.split(x, size) for x in (scale * q, k, v, g))
    beta, g = chunks.split(beta, size)[..., None], g.cumsum(-2)
    decayed = k[..., None, :, :] * chunks.causal_decay(g.mT).movedim(-3, -1)
    interaction = beta * torch.einsum("...ic,...ijc->...ij", k, decayed).tril(-1)
    attention = torch.einsum("...ic,...ijc->...ij", q, decayed)
    from_start, total = g.exp(), g[..., -1, :, None].exp()
    writers = (g[..., -1:, :] - g).exp() * k

    solved = chunks.solve_unit_lower(interaction, torch.cat([beta * v, beta * from_start * k], -1))
    values, keys = solved.split([v.shape[-1], k.shape[-1]], -1)
    queries = from_start * q

    state = v.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1]) if initial_state is None else initial_state
    outputs = []
    for n in range(q.shape[2]):
        delta = values[:, :, n] - keys[:, :, n] @ state
        outputs.append(queries[:, :, n] @ state + attention[:, :, n] @ delta)
        state = total[:, :, n] * state + writers[:, :, n].mT @ delta
    return chunks.join(torch.stack(outputs, 2), length), state
