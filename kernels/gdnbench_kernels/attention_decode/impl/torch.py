"""All rows at once in plain PyTorch, in float32 or wider (any float type, any device)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gdnbench_kernels.attention_decode.token import queries_keys_values
from gdnbench_kernels.precision import cast


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
    position = lengths.long()
    row, held = torch.arange(batch, device=keys.device), position.tolist() if lengths.device.type == "cpu" else []
    keys[row, position], values[row, position] = cast(k, keys.dtype), cast(v, values.dtype)
    filled = max(held, default=capacity - 1) + 1
    # One query a head, of rows that hold equally many: no mask.
    mask = None if len(set(held)) == 1 else _seen(position, filled)
    k, v = (cast(cache[:, :filled], q.dtype).transpose(1, 2) for cache in (keys, values))
    output = F.scaled_dot_product_attention(
        q[:, :, None], k, v, attn_mask=mask, scale=scale, enable_gqa=heads != key_heads
    )
    return cast(output.flatten(1), inputs.dtype)


def _seen(position: Tensor, filled: int) -> Tensor:
    """Return which keys each row's token attends to, bool ``[B, 1, 1, filled]``."""
    return (torch.arange(filled, device=position.device) <= position[:, None])[:, None, None]
