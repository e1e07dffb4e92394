"""How a decode kernel cuts recurrent memories ``[K, V]`` into tiles: all K rows, some columns, held in registers."""

import triton
from torch import Tensor

MOST_ROWS = 256
# A program holds this much of a memory: small enough that several share an SM, which so has the 40 KB on the way that
# an H200's bandwidth times its latency come to.
TILE_BYTES = 16 * 1024
SECTOR_BYTES = 32  # the least that a row of a tile takes of memory
PROGRAMS = 264  # two for each SM of an H200; fewer heads than that are cut finer
ELEMENTS_PER_THREAD = 32


def columns(heads: int, key_dim: int, value_dim: int, element_size: int) -> int:
    """Return how many columns of a head's memory one program takes: a power of two that divides V where it can."""
    columns = 8
    while value_dim % (2 * columns) == 0:
        wider = 2 * columns
        too_large = triton.next_power_of_2(key_dim) * wider * element_size > TILE_BYTES
        too_few = heads * (value_dim // wider) < PROGRAMS
        if (too_large or too_few) and columns * element_size >= SECTOR_BYTES:
            break
        columns = wider
    return columns


def warps(key_dim: int, columns: int) -> int:
    """Return the warps of such a program."""
    return min(8, max(1, triton.next_power_of_2(key_dim) * columns // (32 * ELEMENTS_PER_THREAD)))


def beyond(memory: Tensor) -> str | None:
    """Return what a tile of ``memory [B, H, K, V]`` cannot be, for a backend's ``refuses``: too long."""
    if memory.shape[2] > MOST_ROWS:
        return f"memory: K is {memory.shape[2]}, wants at most {MOST_ROWS}"
    return None
