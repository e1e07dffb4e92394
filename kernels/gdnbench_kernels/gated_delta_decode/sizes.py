"""The sizes that the arguments of `gated_delta_decode` have together."""

from torch import Tensor


def key_heads(x: Tensor, memory: Tensor) -> int:
    """Return how many heads have queries and keys of their own in ``x [B, 2 H K + HV V]``."""
    _, value_heads, key_dim, value_dim = memory.shape
    return (x.shape[1] - value_heads * value_dim) // (2 * key_dim)
