"""Kernels of a residual sum and its norm: a row stays in registers from its sum of squares to what is made of it."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.gpu.partial_sums import add_up
from gdnbench_kernels.launching import launch

# Elements of each tensor that a program holds at once, by 128 threads (more where a row is longer).
FORWARD_TILE = 4096
BACKWARD_TILE = 2048
THREAD_ELEMENTS = 32
SMALLEST = tl.constexpr(2.0**-60)  # of weights, by which a norm is divided again backward
BACKWARD_PROGRAMS = 1056  # eight for each SM of an H200; each leaves one partial sum of the weight's gradient


def forward(x: Tensor, y: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sum, its norm, and ``1 / sqrt(mean(s^2) + eps)`` by row in float32; see `add_norm.api`."""
    total, normed, rstd = results(x, y)
    tile = _tile(x.shape[-1], FORWARD_TILE)
    launch(
        add_norm_forward_kernel,
        (triton.cdiv(rstd.numel(), tile["ROWS"]),),
        x=x.contiguous(),
        y=y.contiguous(),
        weight=weight.contiguous(),
        total=total,
        normed=normed,
        rstd=rstd,
        rows=rstd.numel(),
        eps=float(eps),
        D=x.shape[-1],
        **tile,
    )
    return total, normed, rstd


def backward(
    d_normed: Tensor, normed: Tensor, weight: Tensor, rstd: Tensor, d_total: Tensor | None, single: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, of y (empty where it is that of x) and of the weight.

    The last is bitwise repeatable, for partial sums are added in order. ``single``: x is in float32, whatever y is in.
    """
    dx, dy = gradients(normed, single)
    rows, width = rstd.numel(), normed.shape[-1]
    tile = _tile(width, BACKWARD_TILE)
    tiles = triton.cdiv(rows, tile["ROWS"])
    per_program = triton.cdiv(tiles, BACKWARD_PROGRAMS)
    programs = triton.cdiv(tiles, per_program)
    d_weight = normed.new_empty(programs, width, dtype=torch.float32)
    launch(
        add_norm_backward_kernel,
        (programs,),
        d_total=None if d_total is None else d_total.contiguous(),
        d_normed=d_normed.contiguous(),
        normed=normed,
        weight=weight.contiguous(),
        rstd=rstd,
        dx=dx,
        dy=dy if dy.numel() else None,
        d_weight=d_weight,
        rows=rows,
        per_program=per_program,
        D=width,
        **tile,
    )
    return dx, dy, add_up(d_weight, weight)


def results(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `forward` fills: the sum, the norm, and a number for each row."""
    rows = x.numel() // x.shape[-1]
    return x.new_empty(x.shape), y.new_empty(x.shape), x.new_empty(rows, dtype=torch.float32)


def gradients(normed: Tensor, single: bool) -> tuple[Tensor, Tensor]:
    """Return what `backward` fills of x and y, the latter empty where both have one type, and so one gradient."""
    dx = normed.new_empty(normed.shape, dtype=torch.float32 if single else normed.dtype)
    return dx, normed.new_empty(0 if dx.dtype == normed.dtype else normed.shape)


def _tile(width: int, elements: int) -> dict[str, int]:
    columns = triton.next_power_of_2(width)
    warps = max(4, columns // (32 * THREAD_ELEMENTS))
    return {"BD": columns, "ROWS": max(1, elements // columns), "num_warps": warps}


@triton.jit(do_not_specialize=["rows", "eps"])
def add_norm_forward_kernel(
    x, y, weight, total, normed, rstd, rows, eps, D: tl.constexpr, BD: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Program: some rows, whole."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BD)
    here = (row < rows)[:, None] & (column < D)[None, :]
    place = row.to(tl.int64)[:, None] * D + column[None, :]
    s = tl.load(x + place, mask=here, other=0.0).to(tl.float32) + tl.load(y + place, mask=here, other=0.0).to(
        tl.float32
    )
    s = s.to(total.dtype.element_ty)
    tl.store(total + place, s, mask=here)
    s = s.to(tl.float32)
    w = load_weight(weight, column, D)
    r = tl.rsqrt(tl.sum(s * s, 1) / D + eps)
    tl.store(rstd + row, r, mask=row < rows)
    tl.store(normed + place, (s * r[:, None] * w[None, :]).to(normed.dtype.element_ty), mask=here)


@triton.jit(do_not_specialize=["rows", "per_program"])
def add_norm_backward_kernel(
    d_total, d_normed, normed, weight, rstd, dx, dy, d_weight, rows, per_program,
    D: tl.constexpr, BD: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Program: a run of tiles of rows, whole, and the sum of the weight's gradient over them."""
    column = tl.arange(0, BD)
    w = load_weight(weight, column, D)[None, :]
    unweighed = 1.0 / w
    weight_sum = tl.zeros([ROWS, BD], tl.float32)
    first = tl.program_id(0) * per_program * ROWS
    for tile in range(per_program):
        row = first + tile * ROWS + tl.arange(0, ROWS)
        here = (row < rows)[:, None] & (column < D)[None, :]
        place = row.to(tl.int64)[:, None] * D + column[None, :]
        grad = tl.load(d_normed + place, mask=here, other=0.0).to(tl.float32)
        normalized = tl.load(normed + place, mask=here, other=0.0).to(tl.float32) * unweighed
        r = tl.load(rstd + row, mask=row < rows, other=0.0)[:, None]
        weight_sum += grad * normalized
        d = grad * w
        d = r * (d - normalized * (tl.sum(d * normalized, 1) / D)[:, None])
        if d_total is not None:
            d += tl.load(d_total + place, mask=here, other=0.0).to(tl.float32)
        tl.store(dx + place, d.to(dx.dtype.element_ty), mask=here)
        if dy is not None:
            tl.store(dy + place, d.to(dy.dtype.element_ty), mask=here)
    tl.store(d_weight + tl.program_id(0) * D + column, tl.sum(weight_sum, 0), mask=column < D)


@triton.jit
def load_weight(weight, column, D: tl.constexpr):
    """Return the weight of columns, at least `SMALLEST` away from 0."""
    w = tl.load(weight + column, mask=column < D, other=1.0).to(tl.float32)
    return tl.where(tl.abs(w) < SMALLEST, SMALLEST, w)
