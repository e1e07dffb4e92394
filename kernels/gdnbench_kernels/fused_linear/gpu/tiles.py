"""How the kernel for few rows cuts a matrix, and which programs take which of its rows."""

import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from triton import cdiv


@dataclass(frozen=True, kw_only=True)
class Tile:
    """How a matrix is cut.

    Attributes:
        ROWS: of y, that a program takes at once (with ``swiglu`` twice as many of the matrix).
        BLOCK: columns of one load.
        DEPTH: tiles in registers, on their way or in use.
        STAGES: instead of DEPTH, which is then 0: tiles in a ring in shared memory.
        AHEAD: further tiles on their way to L2.
        LEAD: tiles that are not on their way yet when the next kernel may start, and ask for its own: so few that what
            it asks for does not leave L2 before it is read.
        num_warps: of a program.
        programs: on each SM.
    """

    ROWS: int
    BLOCK: int
    DEPTH: int = 2
    STAGES: int = 0
    AHEAD: int = 2
    LEAD: int = 0
    num_warps: int = 4
    programs: int = 2


def tile(batch: int, rows: int, width: int, row_bytes: int, processors: int) -> Tile:
    """Return the tile for y ``[batch, rows]``, each row made of ``width`` columns and ``row_bytes`` of the matrix."""
    searched = _searched.get()
    for key in ((rows, width), None):
        if key in searched:
            return searched[key]
    warps = 4 if max(row_bytes, 2 * batch * width) <= 4 * WARP_BYTES else 8
    fits = warps * WARP_BYTES // row_bytes
    spread = rows // (2 * processors)  # so that all SMs have something to do
    block = _block(width, 256 * warps)
    return Tile(ROWS=_power(min(fits, spread)), BLOCK=block, num_warps=warps, programs=8 // warps)


WARP_BYTES = 4096  # of a tile, or of the inputs: 32 registers of a thread


def _power(number: int) -> int:
    """Return the largest power of 2 up to a number, at least 1."""
    return 1 << max(0, number.bit_length() - 1)


def _block(width: int, longest: int) -> int:
    """Return the longest block that leaves little of the last one idle; at best all threads load one at once."""
    sizes = [longest >> i for i in range(4)]
    return next((size for size in sizes if cdiv(width, size) * size <= 1.15 * width), sizes[-1])


def shares(mix_rows: tuple[int, ...], tile_rows: int, programs: int) -> tuple[tuple[int, int, int, int], ...]:
    """Divide about ``programs`` among ranges of rows by size: each one's first program, how many, its rows' bounds."""
    total, found, program, row = sum(mix_rows), [], 0, 0
    for size in mix_rows:
        count = min(cdiv(size, tile_rows), max(1, round(programs * size / total)))
        found.append((program, count, row, row + size))
        program, row = program + count, row + size
    return tuple(found)


Tiles = Mapping[tuple[int, int] | None, Tile]

_searched: ContextVar[Tiles] = ContextVar("searched", default=types.MappingProxyType({}))


@contextmanager
def forced(chosen: Tiles) -> Iterator[None]:
    """Cut matrices so inside, by rows of y and width, or (None) all others: for a search, and tests."""
    token = _searched.set(chosen)
    try:
        yield
    finally:
        _searched.reset(token)
