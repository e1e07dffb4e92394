"""What a product's input is made of, on the GPU: residual sum, norm, gate and mix of one row, in blocks of columns."""

import triton
import triton.language as tl

from gdnbench_kernels.gpu.activations import silu


@triton.jit
def columns(i: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr):
    """Return the columns of a block, and which of them there are."""
    column = i * BLOCK + tl.arange(0, BLOCK)
    return column, column < K


@triton.jit
def read_blocks(at, offset, K: tl.constexpr, WRAP: tl.constexpr, BLOCK: tl.constexpr):
    """Return a row, which begins again after WRAP columns, in blocks; nothing of None."""
    blocks = ()
    if at is not None:
        for i in tl.static_range((K + BLOCK - 1) // BLOCK):
            column, here = columns(i, K, BLOCK)
            if WRAP < K:
                column = column % WRAP
            blocks = blocks + (tl.load(at + offset + column, mask=here, other=0.0),)
    return blocks


@triton.jit
def read_constants(norm, norm_bias, mix, which, K: tl.constexpr, NORM: tl.constexpr, BLOCK: tl.constexpr):
    """Return what no kernel writes: the norm's weight (of NORM channels) and bias, and a row of the mix."""
    return (
        read_blocks(norm, 0, K, NORM, BLOCK),
        read_blocks(norm_bias, 0, K, NORM, BLOCK),
        read_blocks(mix, which * K, K, K, BLOCK),
    )


@triton.jit
def make_input(
    x, add, gate, previous, constants, total, normed, b, writes, x_row, add_row, add_part, gate_row, previous_row, eps,
    K: tl.constexpr, GROUP: tl.constexpr, GATE_FIRST: tl.constexpr, ADDS: tl.constexpr, BLOCK: tl.constexpr,
    TYPE: tl.constexpr,
):  # fmt: skip
    """Return row b of the product's input in TYPE, in blocks; store the sum and the norm if it ``writes``."""
    weights, biases, mixes = constants
    LAYER: tl.constexpr = len(biases) > 0
    # All is on its way before anything is waited for.
    sums = read_blocks(x, b * x_row, K, K, BLOCK)
    adds = read_blocks(add, b * add_row, K, K, BLOCK)
    for i in tl.static_range(1, ADDS):
        adds = plus(adds, read_blocks(add + i * add_part, b * add_row, K, K, BLOCK))
    gates = read_blocks(gate, b * gate_row, K, K, BLOCK)
    befores = read_blocks(previous, b * previous_row, K, K, BLOCK)
    if GROUP < K:
        means, rstds = group_statistics(
            x, add, gate, b, x_row, add_row, add_part, gate_row, eps, K, GROUP, GATE_FIRST, ADDS, LAYER
        )
    blocks = ()
    for i in tl.static_range(len(sums)):
        if len(adds) > 0:
            s = (sums[i].to(tl.float32) + adds[i].to(tl.float32)).to(x.dtype.element_ty)
            sums = sums[:i] + (s,) + sums[i + 1 :]
        u = sums[i].to(tl.float32)
        if GATE_FIRST:
            u *= silu(gates[i])
        blocks = blocks + (u,)
    if GROUP == K:
        if len(weights) > 0:
            mean, rstd = statistics(blocks, eps, K, BLOCK, LAYER)
    made = ()
    for i in tl.static_range(len(blocks)):
        u = blocks[i]
        if len(weights) > 0:
            if GROUP < K:
                group = tl.minimum(i * BLOCK + tl.arange(0, BLOCK), K - 1) // GROUP
                mean, rstd = 0.0, tl.gather(rstds, group, 0)
                if LAYER:
                    mean = tl.gather(means, group, 0)
            if LAYER:
                u = (u - mean) * rstd * weights[i].to(tl.float32) + biases[i].to(tl.float32)
            else:
                u = u * rstd * weights[i].to(tl.float32)
        if len(gates) > 0:
            if not GATE_FIRST:
                u *= silu(gates[i])
        made = made + (u.to(TYPE),)
    if writes:
        write_blocks(total, b, sums, K, BLOCK)
        write_blocks(normed, b, made, K, BLOCK)
    if len(befores) > 0:
        for i in tl.static_range(len(made)):
            u = made[i].to(tl.float32)
            u += (befores[i].to(tl.float32) - u) * mixes[i].to(tl.float32)
            made = made[:i] + (u.to(TYPE),) + made[i + 1 :]
    return made


@triton.jit
def plus(one, other):
    """Return sums of blocks."""
    blocks = ()
    for i in tl.static_range(len(one)):
        blocks = blocks + (one[i] + other[i],)
    return blocks


@triton.jit
def write_blocks(at, b, blocks, K: tl.constexpr, BLOCK: tl.constexpr):
    """Store row b of a contiguous matrix of K columns; None is nowhere."""
    if at is not None:
        for i in tl.static_range(len(blocks)):
            column, here = columns(i, K, BLOCK)
            tl.store(at + b * K + column, blocks[i], mask=here)


@triton.jit
def statistics(blocks, eps, K: tl.constexpr, BLOCK: tl.constexpr, LAYER: tl.constexpr):
    """Return the mean of a row (0 for an RMS norm) and what its deviations are to be multiplied with."""
    mean = 0.0
    if LAYER:
        sums = tl.zeros([BLOCK], tl.float32)
        for i in tl.static_range(len(blocks)):
            sums += blocks[i]
        mean = tl.sum(sums, 0) / K
    squares = tl.zeros([BLOCK], tl.float32)
    for i in tl.static_range(len(blocks)):
        u = blocks[i]
        if LAYER:
            u = tl.where(columns(i, K, BLOCK)[1], u - mean, 0.0)
        squares += u * u
    return mean, tl.rsqrt(tl.sum(squares, 0) / K + eps)


@triton.jit
def group_statistics(
    x, add, gate, b, x_row, add_row, add_part, gate_row, eps, K: tl.constexpr, GROUP: tl.constexpr,
    GATE_FIRST: tl.constexpr, ADDS: tl.constexpr, LAYER: tl.constexpr,
):  # fmt: skip
    """Return the same for each group of a row, which is read once more for it, side by side."""
    GROUPS: tl.constexpr = K // GROUP
    group = tl.arange(0, triton.next_power_of_2(GROUPS))[:, None]
    channel = tl.arange(0, triton.next_power_of_2(GROUP))[None, :]
    here, column = (group < GROUPS) & (channel < GROUP), group * GROUP + channel
    u = tl.load(x + b * x_row + column, mask=here, other=0.0)
    if add is not None:
        more = tl.load(add + b * add_row + column, mask=here, other=0.0)
        for i in tl.static_range(1, ADDS):
            more += tl.load(add + i * add_part + b * add_row + column, mask=here, other=0.0)
        u = (u.to(tl.float32) + more.to(tl.float32)).to(x.dtype.element_ty)
    u = u.to(tl.float32)
    if GATE_FIRST:
        u *= silu(tl.load(gate + b * gate_row + column, mask=here, other=0.0))
    means = tl.sum(u, 1) / GROUP
    if LAYER:
        u = tl.where(here, u - means[:, None], 0.0)
    return means, tl.rsqrt(tl.sum(u * u, 1) / GROUP + eps)
