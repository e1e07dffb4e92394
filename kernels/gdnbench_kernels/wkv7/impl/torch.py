"""The chunked form in plain PyTorch: parallel inside a chunk, recurrent across chunks."""

import torch
from torch import Tensor

from gdnbench_kernels import checks, chunks
from gdnbench_kernels.precision import in_full_precision

# Keys are divided by their cumulative decay inside a chunk. RWKV-7 bounds the log decay of a token by -e^-0.5, so
# 64 tokens decay by at most e^-39, whose inverse float32 still holds with all of its digits.
CHUNK_SIZE = 64
# Below this log decay the inverse of a chunk's decay would leave float32's range.
SMALLEST_LOG_DECAY = -80 / CHUNK_SIZE


@in_full_precision
def wkv7(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, *, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run the recurrence by chunks; see `wkv7.api.wkv7`.

    With ``W`` the cumulative log decay in a chunk, what the chunk removes is the solution ``u`` of
    ``(I - tril(a' b'^T, -1)) u = a' S + tril(a' k'^T, -1) v`` where ``a' = a e^{W_{t-1}}``, ``b' = b e^{-W_t}`` and
    ``k' = k e^{-W_t}``; its output is ``r' S + tril(r' k'^T) v + tril(r' b'^T) u`` with ``r' = r e^{W_t}``.
    """
    # Read on a CPU only: on a GPU it would make the host wait.
    if w.is_cpu and checks.may_read(w) and (lowest := w.min().item()) < SMALLEST_LOG_DECAY:
        raise ValueError(
            f"w: log decay {lowest:.3g} is below {SMALLEST_LOG_DECAY}, which the chunked form cannot hold; "
            "impl='reference' serves any decay"
        )
    length = r.shape[1]
    size = min(CHUNK_SIZE, length)
    r, w, k, v, a, b = (chunks.split(x, size) for x in (r, w, k, v, a, b))
    cumulative = w.cumsum(-2)
    grown = (-cumulative).exp()
    readers, removers = r * cumulative.exp(), a * (cumulative - w).exp()
    keys, writers = k * grown, b * grown
    total = cumulative[..., -1, :, None].exp()

    solved = chunks.solve_unit_lower(
        -(removers @ writers.mT).tril(-1), torch.cat([(removers @ keys.mT).tril(-1) @ v, removers], -1)
    )
    values, erasers = solved.split([v.shape[-1], a.shape[-1]], -1)
    own, replaced = (readers @ keys.mT).tril() @ v, (readers @ writers.mT).tril()

    state = initial_state
    outputs = []
    for n in range(r.shape[2]):
        removed, output = values[:, :, n], own[:, :, n]
        if state is not None:
            removed = removed + erasers[:, :, n] @ state
            output = output + readers[:, :, n] @ state
        outputs.append(output + replaced[:, :, n] @ removed)
        written = keys[:, :, n].mT @ v[:, :, n] + writers[:, :, n].mT @ removed
        state = total[:, :, n] * (written if state is None else state + written)
    assert state is not None
    return chunks.join(torch.stack(outputs, 2), length), state
