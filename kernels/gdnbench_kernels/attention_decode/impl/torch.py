"""All rows at once in plain PyTorch, in float32 or wider (any float type, any device)."""

from typing import Any

import torch
from torch import Tensor

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
    """Attend to what is filled of the caches; elsewhere than on a CPU, where that is not known, to all under a mask."""
    batch, capacity, key_heads, _ = keys.shape
    q, k, v = queries_keys_values(inputs, lengths, frequencies, heads=heads, key_heads=key_heads, **preparation)
    row, position = torch.arange(batch, device=keys.device), lengths.long()
    keys[row, position], values[row, position] = k.to(keys.dtype), v.to(values.dtype)
    filled = int(lengths.max()) + 1 if lengths.device.type == "cpu" else capacity
    seen = torch.arange(filled, device=keys.device) <= position[:, None]
    k, v = keys[:, :filled].to(q.dtype), values[:, :filled].to(q.dtype)
    scores = scale * torch.einsum("bhgd,bshd->bhgs", q.unflatten(1, (key_heads, -1)), k)
    weights = scores.masked_fill(~seen[:, None, None], -torch.inf).softmax(-1)
    return torch.einsum("bhgs,bshd->bhgd", weights, v).flatten(1).to(inputs.dtype)
