"""The chunked form in plain PyTorch: masked attention inside a chunk, recurrent across chunks."""

import torch
from torch import Tensor

from gdnbench_kernels import chunks
from gdnbench_kernels.precision import in_full_precision

CHUNK_SIZE = 64


@in_full_precision
def ssd(
    c: Tensor, b: Tensor, x: Tensor, g: Tensor, dt: Tensor, *, initial_state: Tensor | None, output_final_state: bool
) -> tuple[Tensor, Tensor | None]:
    """Run the block decomposition of the semiseparable matrix (Transformers are SSMs, section 6); see `ssd.api.ssd`."""
    length, group = x.shape[1], x.shape[2] // c.shape[2]
    size = min(CHUNK_SIZE, length)
    x = chunks.split(dt[..., None] * x, size)
    g = chunks.split(g, size).cumsum(-1)
    c, b = (chunks.split(t, size).repeat_interleave(group, 1) for t in (c, b))
    total = g[..., -1]
    inside = ((c @ b.mT) * chunks.causal_decay(g)) @ x
    written = ((total[..., None] - g).exp()[..., None] * b).mT @ x
    readers, total = g.exp()[..., None] * c, total.exp()[..., None, None]

    state = initial_state
    outputs = []
    for n in range(x.shape[2]):
        if state is None:
            outputs.append(inside[:, :, n])
            state = written[:, :, n]
        else:
            outputs.append(inside[:, :, n] + readers[:, :, n] @ state)
            state = total[:, :, n] * state + written[:, :, n]
    return chunks.join(torch.stack(outputs, 2), length), state if output_final_state else None
