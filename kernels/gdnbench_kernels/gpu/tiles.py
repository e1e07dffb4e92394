"""How a decode kernel cuts recurrent memories ``[K, V]`` into tiles: all K rows, some columns, held in registers."""

import triton
from torch import Tensor

MOST_ROWS = 256
COLUMNS = 32  # of a tile, where a head has so many
# Of few heads with short columns, narrower tiles put more of the chip to work.
NARROW, SHORT, FEW_PROGRAMS = 16, 128, 1056
# Of an SM's first cache, what programs ask for as shared memory: it holds a kilobyte for each that runs at once.
SHARED_PERCENT = 28
ELEMENTS_PER_THREAD = 64  # many loads of one thread on their way hide memory's latency better than many threads


def columns(heads: int, key_dim: int, value_dim: int) -> int:
    """Return how many columns of a head's memory one program takes: a power of two that divides V where it can."""
    few = key_dim <= SHORT and heads * value_dim < FEW_PROGRAMS * COLUMNS
    return max(8, min(NARROW if few else COLUMNS, value_dim & -value_dim))


def warps(key_dim: int, columns: int) -> int:
    """Return the warps of such a program."""
    return max(1, triton.next_power_of_2(key_dim) * columns // (32 * ELEMENTS_PER_THREAD))


def beyond(memory: Tensor) -> str | None:
    """Return what a tile of ``memory [B, H, K, V]`` cannot be, for a backend's ``refuses``: too long."""
    if memory.shape[2] > MOST_ROWS:
        return f"memory: K is {memory.shape[2]}, wants at most {MOST_ROWS}"
    return None
