"""Kernels of the short convolution: one pass over memory forward, one backward; taps meet in registers.

A *tile* is ``GROUPS`` stretches of consecutive tokens of one sequence by ``BD`` channels. A thread owns a few channels
of one stretch (forward one run of ``RUN`` tokens, backward several), so that it reads each input once, and the W - 1
before its stretch (backward also those after it), which its neighbour reads too. Tiles are numbered by *slot*; packed
sequences leave some unused.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.gpu.activations import sigmoid
from gdnbench_kernels.gpu.partial_sums import add_up
from gdnbench_kernels.launching import launch

THREADS = 128
# Forward, a thread reads 16 bytes of half precision at once, and all inputs of its run before it stores anything.
# Backward, a quarter as much, for it holds inputs, gradients, taps and their gradients at once: it walks over several
# runs, handing on what the next begins with. See `convolution_backward_kernel` for what was measured.
FORWARD_CHANNELS, FORWARD_RUN = 8, 8
BACKWARD_CHANNELS, BACKWARD_RUN, BACKWARD_RUNS = 2, 8, 8
SHORT_RUN, FEW_PROGRAMS = 2, 528  # shorter runs where there are fewer programs than four for each SM of an H200
BACKWARD_PROGRAMS = 2640  # twenty for each SM of an H200; each leaves one partial sum of the taps' gradients
COUNTED = tl.constexpr(256)  # packed sequences that are looked through at once


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    silu: bool,
    output_final_state: bool,
) -> tuple[Tensor, Tensor]:
    """Return the output and the final state (empty where it is not wanted); see `short_convolution.api`."""
    y, final = results(x, weight, cu_seqlens, output_final_state)
    tile = _tile(x.shape[2], FORWARD_CHANNELS, FORWARD_RUN)
    slots = _slots(x, cu_seqlens, tile)
    blocks = triton.cdiv(x.shape[2], tile["BD"])
    if slots * blocks < FEW_PROGRAMS:
        tile["RUN"] = SHORT_RUN
        slots = _slots(x, cu_seqlens, tile)
    launch(
        convolution_forward_kernel,
        (slots * blocks,),
        **_arguments(x, weight, bias, initial_state, cu_seqlens, silu),
        x_st=x.stride(1),
        y=y,
        final=final if output_final_state else None,
        **tile,
    )
    return y, final


def backward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    dy: Tensor,
    d_final: Tensor | None,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight, bias and initial_state (empty where there is none)."""
    dx = empty_like(x, x)
    return dx, *_backward(x, weight, bias, initial_state, cu_seqlens, dy, d_final, silu, dx)


def forward_parts(
    x: Tensor, weight: Tensor, bias: Tensor | None, first: int, second: int, silu: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the output in three tensors, and the channels of x that have no weight; see `api.short_convolutions`."""
    outputs = []
    for part in _parts(first, second, weight):
        own = None if bias is None else bias[part]
        outputs.append(forward(x[..., part], weight[part], own, None, None, silu, False)[0])
    a, b, c = outputs
    return a, b, c, x[..., len(weight) :].contiguous()


def backward_parts(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    da: Tensor,
    db: Tensor,
    dc: Tensor,
    d_rest: Tensor,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias (empty where there is none)."""
    dx, d_weight, d_bias = x.new_empty(x.shape), weight.new_empty(weight.shape), empty_like(bias, x)
    for part, dy in zip(_parts(da.shape[2], db.shape[2], weight), (da, db, dc), strict=True):
        own = None if bias is None else bias[part]
        taps, biases, _ = _backward(x[..., part], weight[part], own, None, None, dy, None, silu, dx[..., part])
        d_weight[part].copy_(taps)
        if bias is not None:
            d_bias[part].copy_(biases)
    dx[..., len(weight) :].copy_(d_rest)
    return dx, d_weight, d_bias


def results_of_parts(x: Tensor, weight: Tensor, first: int, second: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what `forward_parts` fills."""
    sizes = (first, second, len(weight) - first - second, x.shape[2] - len(weight))
    a, b, c, rest = (x.new_empty(*x.shape[:2], size) for size in sizes)
    return a, b, c, rest


def _parts(first: int, second: int, weight: Tensor) -> tuple[slice, slice, slice]:
    return slice(first), slice(first, first + second), slice(first + second, len(weight))


def _backward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    dy: Tensor,
    d_final: Tensor | None,
    silu: bool,
    dx: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Fill ``dx`` and return the gradients of weight, bias and initial_state (empty where there is none).

    Bitwise repeatable: each program sums the taps' gradients over its tiles, and the partial sums are added in order.
    """
    channels, width = weight.shape
    dy = dy if dy.stride(2) == 1 else dy.contiguous()
    tile = _tile(channels, BACKWARD_CHANNELS, BACKWARD_RUN) | {"RUNS": BACKWARD_RUNS}
    blocks = triton.cdiv(channels, tile["BD"])
    slots = _slots(x, cu_seqlens, tile)
    per_program = triton.cdiv(slots * blocks, BACKWARD_PROGRAMS)
    programs = triton.cdiv(slots, per_program)
    d_initial = empty_like(initial_state, x)
    d_weight = x.new_empty(programs, channels, width, dtype=torch.float32)
    d_bias = None if bias is None else x.new_empty(programs, channels, dtype=torch.float32)
    launch(
        convolution_backward_kernel,
        (programs * blocks,),
        **_arguments(x, weight, bias, initial_state, cu_seqlens, silu),
        # Constants, so that the addresses of a run differ by constants; models have few layouts, each with its kernel.
        X_ST=x.stride(1),
        DY_ST=dy.stride(1),
        DX_ST=dx.stride(1),
        dy=dy,
        dy_sb=dy.stride(0),
        d_final=None if d_final is None else d_final.contiguous(),
        dx=dx,
        dx_sb=dx.stride(0),
        d_initial=None if initial_state is None else d_initial,
        d_weight=d_weight,
        d_bias=d_bias,
        slots=slots,
        per_program=per_program,
        WHOLE=cu_seqlens is None and x.shape[1] % _tokens(tile) == 0,
        **tile,
    )
    bias_sum = x.new_empty(0) if bias is None or d_bias is None else add_up(d_bias, bias)
    return add_up(d_weight, weight), bias_sum, d_initial


def results(x: Tensor, weight: Tensor, cu_seqlens: Tensor | None, output_final_state: bool) -> tuple[Tensor, Tensor]:
    """Return what `forward` fills: the output, and the final state or an empty tensor."""
    state = _sequences(x, cu_seqlens), weight.shape[1] - 1, x.shape[2]
    return x.new_empty(x.shape), x.new_empty(state if output_final_state else 0)


def empty_like(given: Tensor | None, x: Tensor) -> Tensor:
    """Return a contiguous tensor for the gradient of ``given``, or an empty one of x's type where that is None."""
    return x.new_empty(0) if given is None else given.new_empty(given.shape)


def _sequences(x: Tensor, cu_seqlens: Tensor | None) -> int:
    return x.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1


def _slots(x: Tensor, cu_seqlens: Tensor | None, tile: dict[str, int]) -> int:
    """Return the number of tiles; for packed sequences a bound that is known without reading their lengths."""
    batch, time, _ = x.shape
    if cu_seqlens is None:
        return batch * triton.cdiv(time, _tokens(tile))
    return time // _tokens(tile) + _sequences(x, cu_seqlens)


def _tokens(tile: dict[str, int]) -> int:
    return tile["GROUPS"] * tile["RUN"] * tile.get("RUNS", 1)


def _tile(channels: int, per_thread: int, run: int) -> dict[str, int]:
    """Return a block of channels as wide as a warp reads at once, or less where that leaves fewer idle at the end."""
    widest = 32 * per_thread
    candidates = [widest, widest // 2, widest // 4]
    block = min(candidates, key=lambda wide: triton.cdiv(channels, wide) * wide)
    return {"BD": block, "GROUPS": THREADS * per_thread // block, "RUN": run, "num_warps": THREADS // 32}


def _arguments(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    silu: bool,
) -> dict[str, Any]:
    return dict(
        x=x,
        x_sb=x.stride(0),
        weight=weight.contiguous(),
        bias=bias,
        initial=None if initial_state is None else initial_state.contiguous(),
        cu_seqlens=cu_seqlens,
        T=x.shape[1],
        sequences=_sequences(x, cu_seqlens),
        D=x.shape[2],
        W=weight.shape[1],
        SILU=silu,
    )


@triton.jit(do_not_specialize=["T", "sequences"])
def convolution_forward_kernel(
    x, x_sb, x_st, weight, bias, initial, cu_seqlens, y, final, T, sequences,
    D: tl.constexpr, W: tl.constexpr, SILU: tl.constexpr,
    BD: tl.constexpr, GROUPS: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """Program (slot, block of channels): the outputs of one tile; a sequence's first also copies its last inputs."""
    BLOCKS: tl.constexpr = tl.cdiv(D, BD)
    slot = tl.program_id(0) // BLOCKS
    column = (tl.program_id(0) % BLOCKS) * BD + tl.arange(0, BD)
    channel = column[None, :]
    batch, sequence, first, length, start = locate(slot, T, cu_seqlens, sequences, GROUPS * RUN)
    t = start + tl.arange(0, GROUPS)[:, None] * RUN
    x += batch * x_sb + first * x_st + channel
    y += (batch * T + first) * D + channel
    if initial is not None:
        initial += sequence * (W - 1) * D + channel

    # All loads before the first store, past which the compiler would move none.
    x_run = x + t.to(tl.int64) * x_st
    inputs = ()
    for i in tl.static_range(-(W - 1), RUN):
        inputs = inputs + (load_inputs(x_run + i * x_st, initial, t + i, length, channel, D, W, BD, i < 0, True),)
    taps = load_taps(weight, bias, column, D, W)
    y_run = y + t.to(tl.int64) * D
    for i in tl.static_range(RUN):
        a = convolve(inputs, taps, i, W)
        if SILU:
            a *= sigmoid(a)
        tl.store(y_run + i * D, a.to(y.dtype.element_ty), mask=(t + i < length) & (channel < D))

    if final is not None:
        if start == 0:
            for j in tl.static_range(W - 1):
                last = tl.cast(length, tl.int64) - (W - 1) + j
                row = load_inputs(x + last * x_st, initial, last, length, channel, D, W, BD, True, True)
                tl.store(final + (sequence * (W - 1) + j) * D + channel, row, mask=channel < D)


@triton.jit(do_not_specialize=["T", "sequences", "slots", "per_program"])
def convolution_backward_kernel(
    x, x_sb, weight, bias, initial, cu_seqlens, dy, dy_sb, d_final, dx, dx_sb, d_initial, d_weight, d_bias,
    T, sequences, slots, per_program, X_ST: tl.constexpr, DY_ST: tl.constexpr, DX_ST: tl.constexpr,
    D: tl.constexpr, W: tl.constexpr, SILU: tl.constexpr, WHOLE: tl.constexpr,
    BD: tl.constexpr, GROUPS: tl.constexpr, RUN: tl.constexpr, RUNS: tl.constexpr,
):  # fmt: skip
    """Program (some slots, block of channels): input gradients of its tiles, and the sum of the taps' gradients.

    The inputs of token t are in the sums of tokens t to t + W - 1. So a thread walks from the end of its stretch to its
    start, and begins with the slopes of the W - 1 tokens after it; a sequence's first goes on to the gradients of the
    initial state. WHOLE: no tile goes beyond its sequence.

    A run's rows are read while the run after it is worked on. Backward alone, on one H200 with 32 sequences of 2,048
    tokens in bfloat16, W = 4, SiLU, that took 0.080 and 0.268 ms at 576 and 2,304 channels (102 and 122 % of the rate
    at which a copy larger than the cache moves x, dy and dx), where runs that wait for their own rows took 0.098 and
    0.328. So measured, gradients of up to RUN tokens before a stretch were read too. Runs of 4 tokens, or 4 channels a
    thread at 128 registers, took 3 to 13 % longer.
    """
    BLOCKS: tl.constexpr = tl.cdiv(D, BD)
    program = tl.program_id(0) // BLOCKS
    column = (tl.program_id(0) % BLOCKS) * BD + tl.arange(0, BD)
    channel = column[None, :]
    taps = load_taps(weight, bias, column, D, W)
    bias_sum = tl.zeros([GROUPS, BD], tl.float32)
    tap_sums = ()
    for _tap in tl.static_range(W):
        tap_sums = tap_sums + (bias_sum,)

    for slot in range(program * per_program, tl.minimum((program + 1) * per_program, slots)):
        batch, sequence, first, length, start = locate(slot, T, cu_seqlens, sequences, GROUPS * RUN * RUNS)
        t = start + (tl.arange(0, GROUPS)[:, None] + 1) * RUN * RUNS
        x_run = x + batch * x_sb + (first + t) * X_ST + channel
        dy_run = dy + batch * dy_sb + (first + t) * DY_ST + channel
        dx_run = dx + batch * dx_sb + (first + t) * DX_ST + channel
        kept = sequence * (W - 1) * D + channel  # in initial and final states
        earlier = None if initial is None else initial + kept
        later = None if d_final is None else d_final + kept

        # What comes after the stretch: the slopes of W - 1 tokens, and the inputs that they are made of.
        inputs = ()
        for i in tl.static_range(-(W - 1), W - 1):
            inputs = inputs + (load_inputs(x_run + i * X_ST, earlier, t + i, length, channel, D, W, BD, True, True),)
        slopes = ()
        for i in tl.static_range(W - 1):
            grad = load_inputs(dy_run + i * DY_ST, None, t + i, length, channel, D, W, BD, False, True)
            slopes = slopes + (input_slope(grad, inputs, taps, i, W, SILU),)
        inputs = inputs[: W - 1]

        more = load_run(x_run, dy_run, earlier, t, length, channel, X_ST, DY_ST, D, W, BD, RUN, False, not WHOLE)
        for run in range(RUNS):
            inputs, grads = more[0] + inputs, more[1]
            t -= RUN
            x_run -= RUN * X_ST
            dy_run -= RUN * DY_ST
            dx_run -= RUN * DX_ST
            # Loads before stores, past which the compiler would move none. Before token 0 there is nothing to read.
            end = tl.where(run + 1 < RUNS, t, 0)
            more = load_run(x_run, dy_run, earlier, end, length, channel, X_ST, DY_ST, D, W, BD, RUN, True, not WHOLE)
            for i in tl.static_range(RUN - 1, -1, -1):
                slope = input_slope(grads[i], inputs, taps, i, W, SILU)
                slopes = (slope,) + slopes
                bias_sum += slope
                sums = ()
                for j in tl.static_range(W):
                    sums = sums + (tap_sums[j] + slope * inputs[i + j].to(tl.float32),)
                tap_sums = sums
                d = input_gradient(slopes, taps, later, t + i, length, channel, D, W).to(dx.dtype.element_ty)
                if WHOLE and D % BD == 0:
                    tl.store(dx_run + i * DX_ST, d)
                else:
                    tl.store(dx_run + i * DX_ST, d, mask=(t + i < length) & (channel < D))
            inputs = inputs[: W - 1]
            slopes = slopes[: W - 1]

        if d_initial is not None:
            for i in tl.static_range(-1, -W, -1):
                slopes = (tl.zeros([GROUPS, BD], tl.float32),) + slopes
                d = input_gradient(slopes, taps, later, t + i, length, channel, D, W).to(d_initial.dtype.element_ty)
                tl.store(d_initial + kept + (t + i + W - 1) * D, d, mask=(t == 0) & (channel < D))

    for j in tl.static_range(W):
        tl.store(d_weight + (program * D + column) * W + j, tl.sum(tap_sums[j], 0), mask=column < D)
    if d_bias is not None:
        tl.store(d_bias + program * D + column, tl.sum(bias_sum, 0), mask=column < D)


@triton.jit
def locate(slot, T, cu_seqlens, sequences, TOKENS: tl.constexpr):
    """Return a slot's (batch row, sequence, first token of the sequence, its length, first token of the tile in it).

    Packed, sequence s owns the slots from ``cu_seqlens[s] // TOKENS + s``: at least as many as it has tiles, and one.
    """
    if cu_seqlens is None:
        tiles = tl.cdiv(T, TOKENS)
        sequence = slot // tiles
        batch = sequence
        first = 0
        length = T
        start = (slot % tiles) * TOKENS
    else:
        before = 0
        for i in range(0, sequences, COUNTED):
            s = i + tl.arange(0, COUNTED)
            begin = tl.load(cu_seqlens + s, mask=s < sequences, other=0).to(tl.int32)
            before += tl.sum(((s < sequences) & (begin // TOKENS + s <= slot)).to(tl.int32), 0)
        sequence = before - 1
        batch = 0
        first = tl.load(cu_seqlens + sequence).to(tl.int32)
        length = tl.load(cu_seqlens + sequence + 1).to(tl.int32) - first
        start = (slot - (first // TOKENS + sequence)) * TOKENS
    return tl.cast(batch, tl.int64), tl.cast(sequence, tl.int64), tl.cast(first, tl.int64), length, start


@triton.jit
def load_taps(weight, bias, column, D: tl.constexpr, W: tl.constexpr):
    """Return a tuple of rows ``[1, BD]``: W taps, the oldest input's first, and the bias where there is one."""
    taps = ()
    for j in tl.static_range(W):
        taps = taps + (tl.load(weight + column * W + j, mask=column < D, other=0.0).to(tl.float32)[None, :],)
    if bias is not None:
        taps = taps + (tl.load(bias + column, mask=column < D, other=0.0).to(tl.float32)[None, :],)
    return taps


@triton.jit
def load_inputs(
    place, initial, t, length, channel,
    D: tl.constexpr, W: tl.constexpr, BD: tl.constexpr, BEFORE: tl.constexpr, BEYOND: tl.constexpr,
):  # fmt: skip
    """Return what lies at ``place`` for tokens ``t``, in its own type; 0 outside the sequence.

    BEFORE, BEYOND: whether ``t`` may be before the sequence, where the rows come from ``initial`` if it is given, and
    whether it may be beyond its end.
    """
    if BEFORE:
        here = t >= 0
        if BEYOND:
            here = here & (t < length)
        if D % BD != 0:
            here = here & (channel < D)
        row = tl.load(place, mask=here, other=0.0)
    elif BEYOND or D % BD != 0:
        row = tl.load(place, mask=(t < length) & (channel < D), other=0.0)
    else:
        row = tl.load(place)
    if BEFORE and initial is not None:
        before = (t < 0) & (t >= -(W - 1)) & (channel < D)
        row += tl.load(initial + (t + W - 1) * D, mask=before, other=0.0).to(row.dtype)
    return row


@triton.jit
def load_run(
    x, dy, initial, end, length, channel, X_ST: tl.constexpr, DY_ST: tl.constexpr,
    D: tl.constexpr, W: tl.constexpr, BD: tl.constexpr, RUN: tl.constexpr, BEFORE: tl.constexpr, BEYOND: tl.constexpr,
):  # fmt: skip
    """Return the inputs, from W - 1 tokens before it, and the outputs' gradients of the run that ends before ``end``.

    ``x`` and ``dy`` are the places of token ``end``. Inputs may always be before the sequence, gradients if BEFORE.
    """
    inputs = ()
    grads = ()
    for i in tl.static_range(-RUN, 0):
        m = i - (W - 1)
        row = load_inputs(x + m * X_ST, initial, end + m, length, channel, D, W, BD, True, BEYOND)
        inputs = inputs + (row,)
        row = load_inputs(dy + i * DY_ST, None, end + i, length, channel, D, W, BD, BEFORE, BEYOND)
        grads = grads + (row,)
    return inputs, grads


@triton.jit
def convolve(inputs, taps, i: tl.constexpr, W: tl.constexpr):
    """Return the sum over taps of token ``i``; ``inputs`` starts W - 1 tokens before token 0."""
    a = taps[0] * inputs[i].to(tl.float32)
    for j in tl.static_range(1, W):
        a += taps[j] * inputs[i + j].to(tl.float32)
    if len(taps) > W:
        a += taps[W]
    return a


@triton.jit
def input_slope(dy, inputs, taps, i: tl.constexpr, W: tl.constexpr, SILU: tl.constexpr):
    """Return the gradient of token ``i``'s sum over taps from that of its output."""
    slope = dy.to(tl.float32)
    if SILU:
        a = convolve(inputs, taps, i, W)
        s = sigmoid(a)
        slope *= s + a * s * (1 - s)
    return slope


@triton.jit
def input_gradient(slopes, taps, d_final, t, length, channel, D: tl.constexpr, W: tl.constexpr):
    """Return the gradients of the inputs of tokens ``t`` from the slopes of W tokens from there on.

    The last W - 1 inputs are the final state too, of which ``d_final``, if given, is the gradient.
    """
    d = taps[W - 1] * slopes[0]
    for j in tl.static_range(1, W):
        d += taps[W - 1 - j] * slopes[j]
    if d_final is not None:
        last = (t >= length - (W - 1)) & (t < length) & (channel < D)
        d += tl.load(d_final + (t - length + W - 1) * D, mask=last, other=0.0).to(tl.float32)
    return d
