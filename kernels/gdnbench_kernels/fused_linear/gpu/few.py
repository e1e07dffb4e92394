"""The kernel for few rows: every program makes the product's input anew, and multiplies some rows of the matrix.

It is to read the matrix as fast as memory gives it, also across the kernels of a chain. So programs are few enough to
run at once, and each has its first tiles of weights on their way, to registers, before it waits for the kernel before
(`gpu.pdl`): memory is busy while the input is made, from what lies in L2. Each program then goes through its tiles,
always as many on their way (`tiles.Tile`). The next kernel may start at once: its programs ask for their own first
tiles as soon as those of this one leave room.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.fused_linear.api import FusedLinear, Input, Output
from gdnbench_kernels.fused_linear.gpu.input import make_input, read_constants
from gdnbench_kernels.fused_linear.gpu.tiles import shares, tile
from gdnbench_kernels.gpu import hardware, pdl
from gdnbench_kernels.gpu.activations import relu2, silu
from gdnbench_kernels.launching import launch

VECTOR = tl.constexpr(4)  # words that a thread loads at once
_INTERPRETED = tl.constexpr(hardware.INTERPRETED)


def product(given: Input, weight: Tensor, wanted: Output) -> FusedLinear:
    """Run the kernel; see `fused_linear.api.fused_linear`."""
    x, (rows, width) = given.x, weight.shape
    swiglu = wanted.activation == "swiglu"
    if swiglu:
        rows //= 2
    processors = hardware.processors(x.device)
    row_bytes = (1 + swiglu) * width * weight.element_size()
    chosen = tile(len(x), rows, width, row_bytes, processors, mixed=given.mix is not None)
    ranges = shares(wanted.mix_rows or (rows,), chosen.ROWS, chosen.programs * processors)
    y = x.new_empty(len(x), rows, dtype=wanted.dtype)
    total = None if given.add is None else x.new_empty(x.shape)
    normed = None if given.previous is None else weight.new_empty(x.shape)
    launch(
        fused_linear_kernel,
        (sum(count for _, count, _, _ in ranges),),
        **arguments(given),
        weight=weight,
        y=y,
        total=total,
        normed=normed,
        **carried(wanted),
        scale=wanted.scale,
        rows=rows,
        RANGES=ranges,
        SWIGLU=swiglu,
        SQUARED=wanted.activation == "relu2",
        B=len(x),
        ROWS=chosen.ROWS,
        BLOCK=chosen.BLOCK,
        DEPTH=chosen.DEPTH,
        num_warps=chosen.num_warps,
        **pdl.overlapping(x.device),
    )
    return FusedLinear(y, x if total is None else total, normed)


def arguments(given: Input) -> dict[str, Any]:
    """Return what `make_input` takes of a call."""
    rows = {name: getattr(given, name) for name in ("x", "add", "gate", "previous")}
    parts, part = (1, 0) if given.add is None or given.add.ndim == 2 else (len(given.add), given.add.stride(0))
    return {
        **rows,
        # Of one row alone no stride is read: it shall not count as another kernel.
        **{f"{name}_row": 0 if row is None or len(given.x) == 1 else row.stride(-2) for name, row in rows.items()},
        "add_part": part,
        "ADDS": parts,
        "norm": given.norm,
        "norm_bias": given.norm_bias,
        "mix": given.mix,
        "eps": given.eps,
        "K": given.x.shape[1],
        "GROUP": given.x.shape[1] if given.norm is None else given.group_size,
        "NORM": given.x.shape[1] if given.norm is None else given.norm.numel(),
        "GATE_FIRST": given.gate_first and given.gate is not None,
    }


def carried(wanted: Output) -> dict[str, Any]:
    """Return what a kernel copies along."""
    source, target = wanted.carry or (None, None)
    return {"source": source, "target": target, "carried": 0 if source is None else source.numel()}


@triton.jit(do_not_specialize=["carried", "scale", "eps"])
def fused_linear_kernel(
    x, add, norm, norm_bias, gate, previous, mix, weight, y, total, normed, source, target, carried,
    x_row, add_row, add_part, gate_row, previous_row, scale, eps, rows,
    K: tl.constexpr, GROUP: tl.constexpr, GATE_FIRST: tl.constexpr, ADDS: tl.constexpr, NORM: tl.constexpr,
    RANGES: tl.constexpr,
    SWIGLU: tl.constexpr, SQUARED: tl.constexpr, B: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    DEPTH: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Program: tiles of rows of one range, so many programs apart."""
    pdl.launch_dependents(PDL)
    program = tl.program_id(0)
    first, step, end, which = share_of(program, RANGES, ROWS)
    # Halves are kept by two in a word: kept apart they would be taken apart, and so waited for, when they are loaded.
    PACKED: tl.constexpr = 32 // weight.dtype.element_ty.primitive_bitwidth
    words = weight
    if PACKED == 2:
        words = weight.to(tl.pointer_type(tl.int32))
    tiles = ()
    for i in tl.static_range(DEPTH):
        tiles = tiles + (load_tile(words, first + i * step, end, rows, K // PACKED, SWIGLU, ROWS, BLOCK // PACKED),)
    constants = read_constants(norm, norm_bias, mix, which, K, NORM, BLOCK)
    pdl.wait(PDL)
    inputs = ()
    last = program == tl.num_programs(0) - 1  # it has the fewest tiles: it writes what else there is to write
    for b in tl.static_range(B):
        made = make_input(
            x, add, gate, previous, constants, total, normed, b, last, x_row, add_row, add_part, gate_row,
            previous_row, eps, K, GROUP, GATE_FIRST, ADDS, BLOCK, weight.dtype.element_ty,
        )  # fmt: skip
        inputs = inputs + (apart(made, BLOCK, PACKED),)
    if source is not None:
        if last:
            copy(source, target, carried)
    # A slot of registers is loaded again as soon as it has been used, and never copied, which would wait for loads.
    # Only then are the sums of all slots finished, together: warps wait for each other there.
    for row in range(first, end, DEPTH * step):
        found = ()
        for i in tl.static_range(DEPTH):
            here = row + i * step
            sums = nothing(tiles[i], inputs)
            # In a branch, lest the compiler mix up tiles, and wait for one before it loads another. Before the load,
            # lest that go to other registers, which would then be copied, and so waited for.
            if here < end:
                sums = multiply(tiles[i], inputs, weight.dtype.element_ty)
            found = found + (sums,)
            fresh = load_tile(words, here + DEPTH * step, end, rows, K // PACKED, SWIGLU, ROWS, BLOCK // PACKED)
            tiles = tiles[:i] + (fresh,) + tiles[i + 1 :]
            end = in_order(end)
        finish(found, y, row, step, end, rows, scale, SWIGLU, SQUARED, ROWS)


@triton.jit
def share_of(program, RANGES: tl.constexpr, ROWS: tl.constexpr):
    """Return a program's first row, how far its tiles are apart, where its range of rows ends, and which that is."""
    start, count, first, end, which = 0, 0, 0, 0, 0
    for i in tl.static_range(len(RANGES)):
        if program >= RANGES[i][0]:
            start, count, first, end, which = RANGES[i][0], RANGES[i][1], RANGES[i][2], RANGES[i][3], i
    return first + (program - start) * ROWS, count * ROWS, end, which


@triton.jit
def load_tile(weight, first, end, rows, K: tl.constexpr, SWIGLU: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Return blocks ``[ROWS, BLOCK]`` of the matrix; with ``SWIGLU`` of twice as many rows, those of the gate first."""
    at, here = tile_rows(first, end, rows, SWIGLU, ROWS)
    begin = weight + at.to(tl.int64)[:, None] * K
    blocks = ()
    for i in tl.static_range((K + BLOCK - 1) // BLOCK):
        column = i * BLOCK + tl.arange(0, BLOCK)
        mask = here[:, None]
        if (i + 1) * BLOCK > K:
            mask = mask & (column < K)[None, :]
        blocks = blocks + (tl.load(begin + column[None, :], mask=mask, other=0.0, eviction_policy="evict_first"),)
    return blocks


@triton.jit
def tile_rows(first, end, rows, SWIGLU: tl.constexpr, ROWS: tl.constexpr):
    """Return which rows of the matrix a tile has, and which of them there are."""
    if SWIGLU:
        both = tl.arange(0, 2 * ROWS)
        row, half = first + both % ROWS, (both // ROWS) * rows
    else:
        row, half = first + tl.arange(0, ROWS), 0
    return row + half, row < end


@triton.jit
def apart(blocks, BLOCK: tl.constexpr, PACKED: tl.constexpr):
    """Return blocks in float32, each as pairs of its even and odd columns where two are packed in a word."""
    made = ()
    for i in tl.static_range(len(blocks)):
        if PACKED == 2:
            even, odd = tl.split(tl.reshape(blocks[i], (BLOCK // 2, 2)))
            made = made + ((even.to(tl.float32), odd.to(tl.float32)),)
        else:
            made = made + ((blocks[i],),)
    return made


@triton.jit
def in_order(number):
    """Return an int32, once all loads before have been asked for: ptxas moves none beyond a barrier of a warp."""
    if not _INTERPRETED:
        number = tl.inline_asm_elementwise(
            "bar.warp.sync 0xffffffff; mov.b32 $0, $1;", "=r,r", [number], dtype=tl.int32, is_pure=False, pack=1
        )
    return number


@triton.jit
def nothing(tile, inputs):
    """Return what `multiply` returns of a tile of zeros."""
    made = ()
    for _ in tl.static_range(len(inputs)):
        made = made + (tl.zeros((tile[0].shape[0], tile[0].shape[1] // VECTOR), tl.float32),)
    return made


@triton.jit
def multiply(tile, inputs, TYPE: tl.constexpr):
    """Return products of a tile with every row's input, summed over the columns that a thread has of a load."""
    made = ()
    for b in tl.static_range(len(inputs)):
        sums = tl.zeros(tile[0].shape, tl.float32)
        for i in tl.static_range(len(tile)):
            if len(inputs[b][i]) == 2:
                even, odd = unpacked(tile[i], TYPE)
                sums += even * inputs[b][i][0][None, :]
                sums += odd * inputs[b][i][1][None, :]
            else:
                sums += tile[i] * inputs[b][i][0][None, :]
        made = made + (tl.sum(tl.reshape(sums, (sums.shape[0], sums.shape[1] // VECTOR, VECTOR)), 2),)
    return made


@triton.jit
def finish(
    found, y, first, step, end, rows, scale, SWIGLU: tl.constexpr, SQUARED: tl.constexpr, ROWS: tl.constexpr
):  # fmt: skip
    """Sum over columns what `multiply` found of tiles ``step`` rows apart, and store what is made of it."""
    COUNT: tl.constexpr = triton.next_power_of_2(len(found))
    tile = tl.arange(0, COUNT)[None, :]
    row = first + tl.arange(0, ROWS)[:, None] + tile * step
    here = (row < end) & (tile < len(found))
    for b in tl.static_range(len(found[0])):
        sums = tl.sum(beside(found, b, COUNT), 1)
        if SWIGLU:
            half, up = tl.split(tl.permute(tl.reshape(sums, (2, ROWS, COUNT)), (1, 2, 0)))
            sums = silu(half) * up
        if SQUARED:
            sums = relu2(sums)
        tl.store(y + b * rows + row, (scale * sums).to(y.dtype.element_ty), mask=here)


@triton.jit
def beside(found, b: tl.constexpr, COUNT: tl.constexpr):
    """Return row b of all tiles, each ``[R, L]``, as one ``[R, L, COUNT]``, filled up with the first."""
    parts = (found[0][b],)
    for i in tl.static_range(1, COUNT):
        parts = parts + (found[i if i < len(found) else 0][b],)
    for _ in tl.static_range(COUNT.bit_length() - 1):
        pairs = ()
        for i in tl.static_range(len(parts) // 2):
            pairs = pairs + (tl.join(parts[i], parts[i + len(parts) // 2]),)
        parts = pairs
    return tl.reshape(parts[0], (found[0][0].shape[0], found[0][0].shape[1], COUNT))


@triton.jit
def unpacked(words, TYPE: tl.constexpr):
    """Return the lower and the upper half of words, numbers of TYPE, in float32."""
    if TYPE == tl.bfloat16:  # the upper half of a float32
        low, high = (words << 16).to(tl.float32, bitcast=True), (words & -65536).to(tl.float32, bitcast=True)
    else:
        low, high = words.to(tl.int16).to(TYPE, bitcast=True), (words >> 16).to(tl.int16).to(TYPE, bitcast=True)
    return low.to(tl.float32), high.to(tl.float32)


@triton.jit
def copy(source, target, size):
    """Copy ``size`` numbers."""
    for begin in range(0, size, 1024):
        place = begin + tl.arange(0, 1024)
        tl.store(target + place, tl.load(source + place, mask=place < size), mask=place < size)
