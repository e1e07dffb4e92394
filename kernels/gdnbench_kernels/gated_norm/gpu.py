"""Kernels of the gated norm: a row stays in registers between its sum of squares and what is made of it."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.gpu.activations import sigmoid
from gdnbench_kernels.gpu.partial_sums import add_up
from gdnbench_kernels.launching import launch

# Elements of each tensor that a program holds at once, by 128 threads. Backward holds three tensors and a sum; with a
# skip, it holds one of both more, of half as many elements.
FORWARD_TILE = 4096
BACKWARD_TILE = 2048
BACKWARD_PROGRAMS = 1056  # eight for each SM of an H200; each leaves one partial sum of the weight's gradient


def forward(
    x: Tensor, z: Tensor, weight: Tensor, eps: float, gate_first: bool, skipped: Tensor | None, skip: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the output, and by row one over the root that it was divided by, in float32; see `gated_norm.api`."""
    y, rstd = results(x)
    rows, value_dim = rstd.numel(), x.shape[-1]
    tile = _tile(value_dim, FORWARD_TILE, skip)
    launch(
        norm_forward_kernel,
        (triton.cdiv(rows, tile["ROWS"]),),
        **_strided(x=x, z=z, skipped=skipped),
        weight=weight.contiguous(),
        y=y,
        rstd=rstd,
        rows=rows,
        eps=float(eps),
        V=value_dim,
        **_options(value_dim, gate_first, skip),
        **tile,
    )
    return y, rstd


def backward(
    dy: Tensor,
    x: Tensor,
    z: Tensor,
    weight: Tensor,
    rstd: Tensor,
    gate_first: bool,
    skipped: Tensor | None,
    skip: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, z, weight and skip (without one: empty), the last two bitwise repeatable.

    Their partial sums, one for each program, are added in order.
    """
    dx, dz = x.new_empty(x.shape), z.new_empty(z.shape)
    rows, value_dim = rstd.numel(), x.shape[-1]
    tile = _tile(value_dim, BACKWARD_TILE, skip)
    tiles = triton.cdiv(rows, tile["ROWS"])
    per_program = triton.cdiv(tiles, BACKWARD_PROGRAMS)
    programs = triton.cdiv(tiles, per_program)
    d_weight = x.new_empty(programs, value_dim, dtype=torch.float32)
    # By head, so that its channels' sums are added up as those of further programs.
    d_skip = None if skip is None else x.new_empty(programs * value_dim // len(skip), len(skip), dtype=torch.float32)
    launch(
        norm_backward_kernel,
        (programs,),
        **_strided(dy=dy if dy.stride(-1) == 1 else dy.contiguous(), x=x, z=z, skipped=skipped),
        weight=weight.contiguous(),
        rstd=rstd,
        dx=dx,
        dz=dz,
        d_weight=d_weight,
        d_skip=d_skip,
        rows=rows,
        per_program=per_program,
        V=value_dim,
        **_options(value_dim, gate_first, skip),
        **tile,
    )
    return dx, dz, add_up(d_weight, weight), x.new_empty(0) if skip is None or d_skip is None else add_up(d_skip, skip)


def results(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `forward` fills: the output, and a number for each row."""
    return x.new_empty(x.shape), x.new_empty(x.numel() // x.shape[-1], dtype=torch.float32)


def _tile(value_dim: int, elements: int, skip: Tensor | None) -> dict[str, int]:
    columns, elements = triton.next_power_of_2(value_dim), elements if skip is None else elements // 2
    return {"BV": columns, "ROWS": max(1, elements // columns), "num_warps": max(4, 4 * columns // elements)}


def _options(value_dim: int, gate_first: bool, skip: Tensor | None) -> dict[str, object]:
    if skip is None:
        return {"skip": None, "HEAD": 1, "GATE_FIRST": gate_first}
    return {"skip": skip.contiguous(), "HEAD": value_dim // len(skip), "GATE_FIRST": gate_first}


def _strided(**tensors: Tensor | None) -> dict[str, object]:
    """Return each tensor as ``[outer, inner, V]`` with its strides, a view where its leading dimensions merge."""
    arguments: dict[str, object] = {}
    for name, x in tensors.items():
        if x is None:
            arguments |= {name: None, f"{name}_so": 0, f"{name}_si": 0}
            continue
        inner = x.shape[-2] if x.ndim > 3 else 1  # heads; kernels are compiled for their number, not for one of tokens
        x = x.reshape(-1, inner, x.shape[-1])
        arguments |= {name: x, f"{name}_so": x.stride(0), f"{name}_si": x.stride(1), "inner": inner}
    return arguments


@triton.jit(do_not_specialize=["rows", "eps"])
def norm_forward_kernel(
    x, x_so, x_si, z, z_so, z_si, skipped, skipped_so, skipped_si, weight, skip, y, rstd, rows, eps,
    inner: tl.constexpr, V: tl.constexpr, HEAD: tl.constexpr, GATE_FIRST: tl.constexpr,
    BV: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Program: some rows, whole."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BV)
    here = (row < rows)[:, None] & (column < V)[None, :]
    x_tile = tl.load(place(x, x_so, x_si, inner, row, column), mask=here, other=0.0).to(tl.float32)
    z_tile = tl.load(place(z, z_so, z_si, inner, row, column), mask=here, other=0.0).to(tl.float32)
    w = tl.load(weight + column, mask=column < V, other=0.0).to(tl.float32)
    if skipped is not None:
        by_head = tl.load(skip + column // HEAD, mask=column < V, other=0.0).to(tl.float32)
        around = tl.load(place(skipped, skipped_so, skipped_si, inner, row, column), mask=here, other=0.0)
        x_tile += by_head[None, :] * around.to(tl.float32)
    gate = z_tile * sigmoid(z_tile)
    if GATE_FIRST:
        x_tile *= gate
    r = tl.rsqrt(tl.sum(x_tile * x_tile, 1) / V + eps)
    tl.store(rstd + row, r, mask=row < rows)
    output = x_tile * r[:, None] * w[None, :]
    if not GATE_FIRST:
        output *= gate
    tl.store(place(y, inner * V, V, inner, row, column), output.to(y.dtype.element_ty), mask=here)


@triton.jit(do_not_specialize=["rows", "per_program"])
def norm_backward_kernel(
    dy, dy_so, dy_si, x, x_so, x_si, z, z_so, z_si, skipped, skipped_so, skipped_si, weight, skip, rstd,
    dx, dz, d_weight, d_skip, rows, per_program,
    inner: tl.constexpr, V: tl.constexpr, HEAD: tl.constexpr, GATE_FIRST: tl.constexpr,
    BV: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Program: a run of tiles of rows, whole, and the sums over them of the gradients of weight and skip."""
    column = tl.arange(0, BV)
    w = tl.load(weight + column, mask=column < V, other=0.0).to(tl.float32)[None, :]
    weight_sum = tl.zeros([ROWS, BV], tl.float32)
    if skipped is not None:
        by_head = tl.load(skip + column // HEAD, mask=column < V, other=0.0).to(tl.float32)[None, :]
        skip_sum = tl.zeros([ROWS, BV], tl.float32)
    first = tl.program_id(0) * per_program * ROWS
    for tile in range(per_program):
        row = first + tile * ROWS + tl.arange(0, ROWS)
        here = (row < rows)[:, None] & (column < V)[None, :]
        dy_tile = tl.load(place(dy, dy_so, dy_si, inner, row, column), mask=here, other=0.0).to(tl.float32)
        x_tile = tl.load(place(x, x_so, x_si, inner, row, column), mask=here, other=0.0).to(tl.float32)
        z_tile = tl.load(place(z, z_so, z_si, inner, row, column), mask=here, other=0.0).to(tl.float32)
        r = tl.load(rstd + row, mask=row < rows, other=0.0)[:, None]
        if skipped is not None:
            around = tl.load(place(skipped, skipped_so, skipped_si, inner, row, column), mask=here, other=0.0)
            around = around.to(tl.float32)
            x_tile += by_head * around
        s = sigmoid(z_tile)
        gate = z_tile * s
        if GATE_FIRST:
            normalized = x_tile * gate * r
            weighed = dy_tile  # the gradient of weight * normalized
        else:
            normalized = x_tile * r
            weighed = dy_tile * gate
        weight_sum += weighed * normalized
        d = weighed * w
        d = r * (d - normalized * (tl.sum(d * normalized, 1) / V)[:, None])
        if GATE_FIRST:
            d_gate = d * x_tile
            d *= gate
        else:
            d_gate = dy_tile * normalized * w
        tl.store(place(dx, inner * V, V, inner, row, column), d.to(dx.dtype.element_ty), mask=here)
        if skipped is not None:
            skip_sum += d * around
        d = d_gate * (s + gate * (1 - s))
        tl.store(place(dz, inner * V, V, inner, row, column), d.to(dz.dtype.element_ty), mask=here)
    tl.store(d_weight + tl.program_id(0) * V + column, tl.sum(weight_sum, 0), mask=column < V)
    if skipped is not None:
        row = tl.program_id(0) * HEAD + column % HEAD
        tl.store(d_skip + row * (V // HEAD) + column // HEAD, tl.sum(skip_sum, 0), mask=column < V)


@triton.jit
def place(x, x_so, x_si, inner: tl.constexpr, row, column):
    """Return where rows ``row`` of ``[outer, inner, V]`` lie."""
    return x + ((row // inner).to(tl.int64) * x_so + (row % inner) * x_si)[:, None] + column[None, :]
