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
        num_warps: of a program.
        programs: on each SM.
    """

    ROWS: int
    BLOCK: int
    DEPTH: int
    num_warps: int
    programs: int


# Found by search on an H200 over the models' shapes, at batches 1 and 2.
WARPS, REGISTERS = 16, 128  # that fill an SM: warps, of so many registers a thread
OTHERS = 32  # registers that hold neither inputs nor weights nor sums
WEIGHTS = 68  # at most, for weights on their way and sums; twice as many where programs fill half of an SM
FOUR_WARPS = 4096  # numbers of all inputs that four warps hold; of more, eight do
MOST_INPUTS = 48  # registers beyond which programs fill half of an SM
SMALL, MEDIUM = 64 * 1024, 112 * 1024  # bytes of the matrix that an SM reads
FEW = 8  # rows of an SM or of a program
MOST_DEPTH = 4


def tile(batch: int, rows: int, width: int, row_bytes: int, processors: int, *, mixed: bool = False) -> Tile:
    """Return the tile for y ``[batch, rows]``, each row made of ``width`` columns and ``row_bytes`` of the matrix.

    ``mixed``: inputs are mixed with previous ones, so that more is held while they are made.
    """
    searched = _searched.get()
    for key in ((rows, width), None):
        if key in searched:
            return searched[key]
    warps = 4 if batch * width <= FOUR_WARPS else 8
    threads = 32 * warps
    inputs = batch * width // threads  # registers
    read = rows * row_bytes / processors
    programs, room = WARPS // warps, min(WEIGHTS, REGISTERS - OTHERS - inputs)
    # A matrix that is soon read leaves half of the SM to the next kernel's programs, whose weights then come meanwhile.
    if read <= MEDIUM or inputs > MOST_INPUTS or mixed:
        programs, room = programs // 2, 2 * WEIGHTS
    if rows <= FEW * processors:
        programs = 1
    fit = max(1, room * 4 * threads // (row_bytes + batch * 4 * threads))  # rows
    each = cdiv(rows, processors * programs)
    if read <= SMALL:  # all of it is on its way at once
        at_once = _power(min(4, fit))
        depth = min(fit // at_once, cdiv(each, at_once))
    elif each <= FEW:  # it is read in so few rounds that larger tiles pay more than weights on their way
        at_once, depth = _power(min(4, fit)), 1
    else:
        at_once = 4 if fit >= 16 else 2 if fit >= 6 else 1
        depth = fit // at_once
    return Tile(
        ROWS=at_once,
        BLOCK=_block(width, 256 * warps),
        DEPTH=min(MOST_DEPTH, depth),
        num_warps=warps,
        programs=programs,
    )


def _power(number: int) -> int:
    """Return the largest power of 2 up to a number."""
    return 1 << (number.bit_length() - 1)


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
