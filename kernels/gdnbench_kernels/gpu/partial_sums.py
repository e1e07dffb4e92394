"""Adding up what each program of a kernel summed of a parameter's gradient: in one launch, and always in one order."""

import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.launching import launch

ROWS, COLUMNS, WARPS = 256, 16, 8  # few columns each, so that many programs read at once


def add_up(partial: Tensor, like: Tensor) -> Tensor:
    """Return the sum of float32 ``partial [programs, ...]`` over programs, in the shape and type of ``like``."""
    total = like.new_empty(like.shape)
    size = total.numel()
    launch(
        partial_sums_kernel,
        (triton.cdiv(size, COLUMNS),),
        partial=partial,
        total=total,
        programs=partial.shape[0],
        size=size,
        ROWS=ROWS,
        COLUMNS=COLUMNS,
        num_warps=WARPS,
    )
    return total


@triton.jit(do_not_specialize=["programs"])
def partial_sums_kernel(partial, total, programs, size, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Program: some columns of ``partial [programs, size]``."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    sums = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(0, programs, ROWS):
        row = first + tl.arange(0, ROWS)
        here = (row < programs)[:, None] & (column < size)[None, :]
        sums += tl.load(partial + row.to(tl.int64)[:, None] * size + column[None, :], mask=here, other=0.0)
    tl.store(total + column, tl.sum(sums, 0).to(total.dtype.element_ty), mask=column < size)
