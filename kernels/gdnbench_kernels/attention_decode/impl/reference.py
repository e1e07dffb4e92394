"""The definition: one row after another, over the keys that it holds (any float type, any device)."""

from typing import Any

import torch
from torch import Tensor

from gdnbench_kernels.attention.api import attention_step
from gdnbench_kernels.attention_decode.token import queries_keys_values


def attention_decode(
    inputs: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor,
    frequencies: Tensor,
    *,
    heads: int,
    scale: float,
    arrived: Tensor | None,
    settled: bool,
    **preparation: Any,
) -> Tensor:
    """Apply `attention_step` to every row; see `attention_decode.api.attention_decode`."""
    q, k, v = queries_keys_values(inputs, lengths, frequencies, heads=heads, key_heads=keys.shape[2], **preparation)
    outputs = []
    for row, length in enumerate(lengths.tolist()):
        keys[row, length], values[row, length] = k[row].to(keys.dtype), v[row].to(values.dtype)
        seen = (cache[row : row + 1, : length + 1].to(q.dtype) for cache in (keys, values))
        outputs.append(attention_step(q[row : row + 1], *seen, scale=scale))
    return torch.cat(outputs).flatten(1).to(inputs.dtype)
