"""Which rows of the matrix a program of `several` or `hopper` has: ranges of rows in equal parts."""

import triton
import triton.language as tl


def parts(sizes: tuple[int, ...], programs: int, most: int) -> tuple[tuple[tuple[int, int, int, int], ...], int]:
    """Divide ranges of rows into equal parts, at most ``most`` rows each and about ``programs`` of them.

    Returns:
        Of each range its first program, its first row, rows of a program, its end; how many programs there are.
    """
    waves = triton.cdiv(triton.cdiv(sum(sizes), programs), most)
    found, program, row = [], 0, 0
    for size in sizes:
        count = max(1, round(waves * programs * size / sum(sizes)), triton.cdiv(size, most))
        height = triton.cdiv(size, count)
        found.append((program, row, height, row + size))
        program, row = program + triton.cdiv(size, height), row + size
    return tuple(found), program


@triton.jit
def part_of(program, RANGES: tl.constexpr):
    """Return a program's first row, its end, and which range they are of."""
    start, row, height, end, which = 0, 0, 0, 0, 0
    for i in tl.static_range(len(RANGES)):
        if program >= RANGES[i][0]:
            start, row, height, end, which = RANGES[i][0], RANGES[i][1], RANGES[i][2], RANGES[i][3], i
    first = row + (program - start) * height
    return first, tl.minimum(first + height, end), which
