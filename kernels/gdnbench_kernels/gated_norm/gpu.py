"""Kernels of the gated norm: a row stays in registers between its sum of squares and what is made of it."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.gpu.activations import sigmoid
from gdnbench_kernels.gpu.partial_sums import add_up
from gdnbench_kernels.launching import launch

# Elements of each tensor that a program holds at once, by 128 threads. Backward holds three tensors and a sum.
FORWARD_TILE = 4096
BACKWARD_TILE = 2048
BACKWARD_PROGRAMS = 1056  # eight for each SM of an H200; each leaves one partial sum of the weight's gradient


def forward(x: Tensor, z: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the output, and ``1 / sqrt(mean(x^2) + eps)`` by row in float32; see `gated_norm.api`."""
    y, rstd = results(x)
    rows, value_dim = rstd.numel(), x.shape[-1]
    tile = _tile(value_dim, FORWARD_TILE)
    launch(
        norm_forward_kernel,
        (triton.cdiv(rows, tile["ROWS"]),),
        **_strided(x=x, z=z),
        weight=weight.contiguous(),
        y=y,
        rstd=rstd,
        rows=rows,
        eps=float(eps),
        V=value_dim,
        **tile,
    )
    return y, rstd


def backward(dy: Tensor, x: Tensor, z: Tensor, weight: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, z and weight; the last bitwise repeatable, for partial sums are added in order."""
    dx, dz = x.new_empty(x.shape), z.new_empty(z.shape)
    rows, value_dim = rstd.numel(), x.shape[-1]
    tile = _tile(value_dim, BACKWARD_TILE)
    tiles = triton.cdiv(rows, tile["ROWS"])
    per_program = triton.cdiv(tiles, BACKWARD_PROGRAMS)
    programs = triton.cdiv(tiles, per_program)
    d_weight = x.new_empty(programs, value_dim, dtype=torch.float32)
    launch(
        norm_backward_kernel,
        (programs,),
        **_strided(dy=dy if dy.stride(-1) == 1 else dy.contiguous(), x=x, z=z),
        weight=weight.contiguous(),
        rstd=rstd,
        dx=dx,
        dz=dz,
        d_weight=d_weight,
        rows=rows,
        per_program=per_program,
        V=value_dim,
        **tile,
    )
    return dx, dz, add_up(d_weight, weight)


def results(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `forward` fills: the output, and a number for each row."""
    return x.new_empty(x.shape), x.new_empty(x.numel() // x.shape[-1], dtype=torch.float32)


def _tile(value_dim: int, elements: int) -> dict[str, int]:
    columns = triton.next_power_of_2(value_dim)
    return {"BV": columns, "ROWS": max(1, elements // columns), "num_warps": 4}


def _strided(**tensors: Tensor) -> dict[str, object]:
    """Return each tensor as ``[outer, inner, V]`` with its strides, a view where its leading dimensions merge."""
    arguments: dict[str, object] = {}
    for name, x in tensors.items():
        inner = x.shape[-2] if x.ndim > 1 else 1
        x = x.reshape(-1, inner, x.shape[-1])
        arguments |= {name: x, f"{name}_so": x.stride(0), f"{name}_si": x.stride(1), "inner": inner}
    return arguments


@triton.jit(do_not_specialize=["rows", "eps"])
def norm_forward_kernel(
    x, x_so, x_si, z, z_so, z_si, weight, y, rstd, rows, eps,
    inner: tl.constexpr, V: tl.constexpr, BV: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Program: some rows, whole."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BV)
    here = (row < rows)[:, None] & (column < V)[None, :]
    x_tile = tl.load(place(x, x_so, x_si, inner, row, column), mask=here, other=0.0).to(tl.float32)
    z_tile = tl.load(place(z, z_so, z_si, inner, row, column), mask=here, other=0.0).to(tl.float32)
    w = tl.load(weight + column, mask=column < V, other=0.0).to(tl.float32)
    r = tl.rsqrt(tl.sum(x_tile * x_tile, 1) / V + eps)
    tl.store(rstd + row, r, mask=row < rows)
    output = x_tile * r[:, None] * w[None, :] * z_tile * sigmoid(z_tile)
    tl.store(place(y, inner * V, V, inner, row, column), output.to(y.dtype.element_ty), mask=here)


@triton.jit(do_not_specialize=["rows", "per_program"])
def norm_backward_kernel(
    dy, dy_so, dy_si, x, x_so, x_si, z, z_so, z_si, weight, rstd, dx, dz, d_weight, rows, per_program,
    inner: tl.constexpr, V: tl.constexpr, BV: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Program: a run of tiles of rows, whole, and the sum of the weight's gradient over them."""
    column = tl.arange(0, BV)
    w = tl.load(weight + column, mask=column < V, other=0.0).to(tl.float32)[None, :]
    weight_sum = tl.zeros([ROWS, BV], tl.float32)
    first = tl.program_id(0) * per_program * ROWS
    for tile in range(per_program):
        row = first + tile * ROWS + tl.arange(0, ROWS)
        here = (row < rows)[:, None] & (column < V)[None, :]
        dy_tile = tl.load(place(dy, dy_so, dy_si, inner, row, column), mask=here, other=0.0).to(tl.float32)
        x_tile = tl.load(place(x, x_so, x_si, inner, row, column), mask=here, other=0.0).to(tl.float32)
        z_tile = tl.load(place(z, z_so, z_si, inner, row, column), mask=here, other=0.0).to(tl.float32)
        r = tl.load(rstd + row, mask=row < rows, other=0.0)[:, None]
        normalized = x_tile * r
        s = sigmoid(z_tile)
        ungated = dy_tile * normalized
        gated = dy_tile * z_tile * s  # the gradient of weight * normalized
        weight_sum += gated * normalized
        d = gated * w
        d = r * (d - normalized * (tl.sum(d * normalized, 1) / V)[:, None])
        tl.store(place(dx, inner * V, V, inner, row, column), d.to(dx.dtype.element_ty), mask=here)
        d = ungated * w * (s + z_tile * s * (1 - s))
        tl.store(place(dz, inner * V, V, inner, row, column), d.to(dz.dtype.element_ty), mask=here)
    tl.store(d_weight + tl.program_id(0) * V + column, tl.sum(weight_sum, 0), mask=column < V)


@triton.jit
def place(x, x_so, x_si, inner: tl.constexpr, row, column):
    """Return where rows ``row`` of ``[outer, inner, V]`` lie."""
    return x + ((row // inner).to(tl.int64) * x_so + (row % inner) * x_si)[:, None] + column[None, :]
