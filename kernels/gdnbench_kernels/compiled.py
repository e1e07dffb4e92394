"""The kernel launches that this package ships, by architecture and shape class: what is checked without a GPU.

Found by running the real drivers on ``meta`` tensors, so that what is compiled is the shipped configuration.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from gdnbench_kernels.launching import Launch, recorded

ARCHITECTURES = (80, 90, 100)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A call of the gated delta rule or of ssd: sizes, and what is computed inside it.

    Attributes:
        batch, time, heads, group, key_dim, value_dim: sizes; ``group`` value heads for each key head.
        raw: whether q and k are normalized, g and beta made from their logits, inside the kernels.
        packed: whether sequences of different lengths lie in one row.
        state: whether there is an initial and a final state.
        plain: whether the plain versions are taken where a GPU has others: that they are fit for every one is checked.
    """

    batch: int = 8
    time: int = 4096
    heads: int = 16
    group: int = 1
    key_dim: int = 128
    value_dim: int = 128
    raw: bool = True
    packed: bool = False
    state: bool = False
    plain: bool = False


# Where a kernel is told apart by its shape class: the head dims that the paper's widths and its peers use, one whose
# dims are no powers of two, few long sequences (cut into pieces), packed ones, and inputs that come ready.
_EVERYWHERE = {
    "K 32, V 64": Shape(batch=60, time=1024, heads=6, key_dim=32, value_dim=64),
    "K 128, V 128": Shape(),
    "K 256, V 512": Shape(heads=6, key_dim=256, value_dim=512),
}
SHAPES = {
    80: _EVERYWHERE,
    90: _EVERYWHERE
    | {f"{name}, plain": replace(shape, plain=True) for name, shape in _EVERYWHERE.items()}
    | {
        "K 96, V 192": Shape(batch=32, time=1024, heads=6, key_dim=96, value_dim=192),
        "K 128, V 256": Shape(batch=32, time=1024, heads=6, value_dim=256),
        "K 128, V 128, one sequence": Shape(batch=1, time=32768, state=True),
        "K 128, V 128, packed": Shape(batch=1, time=8192, group=2, packed=True, state=True),
        "K 128, V 128, given": Shape(raw=False),
    },
    100: _EVERYWHERE,
}

# Mamba-2's own sizes, wide keys, and few chunks, so that several programs share the heads of a group.
_SSD_EVERYWHERE = {
    "ssd, K 128, V 64": Shape(batch=32, time=2048, heads=1, group=24, value_dim=64),
    "ssd, K 256, V 64": Shape(batch=32, time=2048, heads=1, group=24, key_dim=256, value_dim=64),
}
SSD_SHAPES = {
    80: _SSD_EVERYWHERE,
    90: _SSD_EVERYWHERE
    | {f"{name}, plain": replace(shape, plain=True) for name, shape in _SSD_EVERYWHERE.items()}
    | {"ssd, K 64, V 128, few": Shape(batch=2, time=2048, heads=1, group=24, key_dim=64, state=True)},
    100: _SSD_EVERYWHERE,
}


def launches(arch: int) -> list[tuple[str, Launch]]:
    """Return the launches that a GPU of ``arch`` (80, 90, 100) would make, each with the name of its case."""
    runs: dict[str, Callable[[], None]] = {name: partial(_gated_delta, shape) for name, shape in SHAPES[arch].items()}
    runs |= {name: partial(_ssd, shape) for name, shape in SSD_SHAPES[arch].items()}
    runs |= {
        "decode step": _step,
        "gated_delta_decode, one row": partial(_gated_delta_decode, 1),
        "gated_delta_decode, 64 rows": partial(_gated_delta_decode, 64),
        "ssd_decode, one row": partial(_ssd_decode, 1),
        "ssd_decode, 64 rows": partial(_ssd_decode, 64),
        "fused_linear, swiglu": partial(_fused_linear, 2048, 11264, activation="swiglu"),
        "fused_linear, two rows": partial(_fused_linear, 2048, 9232, batch=2),
        "fused_linear, 16 rows": partial(_fused_linear, 2048, 11264, batch=16, activation="swiglu"),
        "fused_linear, 64 rows": partial(_fused_linear, 2048, 11264, batch=64, activation="swiglu"),
        "fused_linear, 64 rows, parts": partial(_fused_linear, 5632, 2048, batch=64, norm=False),
        "fused_linear, gated groups": partial(_fused_linear, 3072, 2048, group_size=512),
        "fused_linear, mixed": partial(_fused_linear, 2048, 6528, mix_rows=(2048, 2048, 2048, 96, 160, 128)),
        "fused_linear, plain": partial(_fused_linear, 5632, 2048, norm=False),
        "attention_decode, one row": partial(_attention_decode, 1, 16, 16, 128),
        "attention_decode, 64 rows": partial(_attention_decode, 64, 16, 16, 128),
        "attention_decode, D 512": partial(_attention_decode, 1, 4, 4, 512),
        "attention_decode, grouped heads": partial(_attention_decode, 1, 32, 4, 128),
        "attention_decode, native block": partial(_attention_decode, 1, 16, 16, 128, native=True),
        "wkv7_decode, K 64": partial(_wkv7_decode, 32, 64),
        "wkv7_decode, K 192": partial(_wkv7_decode, 4, 192),
        "next_token": _next_token,
        "short convolution": _short_convolution,
        "gated norm": _gated_norm,
        "gated norm, a skip, gate first": _skipped_norm,
        "add norm": _add_norm,
        "linear cross entropy": _linear_cross_entropy,
    }
    found = []
    for name, run in runs.items():
        with recorded(arch) as made:
            run()
        found += [(name, launch) for launch in made]
    return found


_half = partial(torch.empty, dtype=torch.bfloat16, device="meta")
_single = partial(torch.empty, dtype=torch.float32, device="meta")


def _gated_delta(shape: Shape) -> None:
    """Run the gated delta rule forward and backward."""
    from gdnbench_kernels.gated_delta.gpu import choice, operator

    value_heads, tokens = shape.heads * shape.group, (shape.batch, shape.time)
    q, k = (_half(*tokens, shape.heads, shape.key_dim) for _ in range(2))
    v = _half(*tokens, value_heads, shape.value_dim)
    g, beta = (_half(*tokens, value_heads) for _ in range(2))
    cu_seqlens = torch.empty(9, dtype=torch.int32, device="meta") if shape.packed else None
    sequences = 8 if shape.packed else shape.batch
    state = _single(sequences, value_heads, shape.key_dim, shape.value_dim) if shape.state else None
    A_log, dt_bias = (_single(value_heads) if shape.raw else None for _ in range(2))
    settings = {"scale": 0.5, "gate_scale": 1.0, "beta_range": 1.0 if shape.raw else None, "normalize": shape.raw}
    inputs = q, k, v, g, beta, A_log, dt_bias, state, cu_seqlens
    forward: Any = operator.forward
    backward: Any = operator.backward
    with choice.plain() if shape.plain else nullcontext():
        output, final, *kept = forward(*inputs, **settings, output_final_state=shape.state)
        backward(*inputs, *kept, output, final if shape.state else None, **settings)


def _ssd(shape: Shape) -> None:
    """Run Mamba-2's recurrence forward and backward."""
    from gdnbench_kernels.gated_delta.gpu import choice
    from gdnbench_kernels.ssd.gpu import passes

    heads, tokens = shape.heads * shape.group, (shape.batch, shape.time)
    c, b = (_half(*tokens, shape.heads, shape.key_dim) for _ in range(2))
    x = _half(*tokens, heads, shape.value_dim)
    g, dt = (_single(*tokens, heads) for _ in range(2))
    state = _single(shape.batch, heads, shape.key_dim, shape.value_dim) if shape.state else None
    forward: Any = passes.forward
    backward: Any = passes.backward
    with choice.plain() if shape.plain else nullcontext():
        output, final = forward(c, b, x, g, dt, state, shape.state)
        backward(c, b, x, g, dt, state, output, final if shape.state else None)


def _step() -> None:
    """Run one decode step of 64 sequences."""
    from gdnbench_kernels.gated_delta.gpu.step import step

    q, k, v = (_half(64, 16, 128) for _ in range(3))
    g, beta = (_half(64, 16) for _ in range(2))
    gates: dict[str, Any] = {"A_log": _single(16), "dt_bias": _single(16), "gate_scale": 1.0, "beta_range": 1.0}
    step(q, k, v, g, beta, _single(64, 16, 128, 128), scale=0.5, normalize_qk=True, **gates)


def _gated_delta_decode(rows: int) -> None:
    """Run one token of six heads of 256 by 512, of a row of projections."""
    from gdnbench_kernels.gated_delta_decode.gpu import decode

    channels, row = 2 * 6 * 256 + 6 * 512, _half(rows, 9232)
    g, beta = (row[:, first : first + 6] for first in (9216, 9222))
    taps, ring, memory = _half(4, channels).t(), _half(rows, 4, channels), _single(rows, 6, 256, 512)
    lengths = torch.empty(rows, dtype=torch.int32, device="meta")
    decode(row[:, :channels], g, beta, taps, ring, memory, lengths, _single(6), _single(6), 1.0, 1.0, 1.0, True)


def _ssd_decode(rows: int) -> None:
    """Run one token of 64 heads of 128 by 64, of a row of projections."""
    from gdnbench_kernels.ssd_decode.gpu import decode

    channels, row = 64 * 64 + 2 * 128, _half(rows, 8512)
    taps, ring, memory = _half(4, channels).t(), _half(rows, 4, channels), _single(rows, 64, 128, 64)
    lengths, scalar = torch.empty(rows, dtype=torch.int32, device="meta"), _single(64)
    x, dt, bias = row[:, :channels], row[:, 8448:], _single(channels)
    decode(x, dt, taps, bias, ring, memory, lengths, scalar, scalar, scalar, True)


def _fused_linear(
    width: int, rows: int, *, batch: int = 1, norm: bool = True, group_size: int | None = None, **output: Any
) -> None:
    """Run one token's product with a matrix ``[rows, width]`` of the 1.3B models."""
    from gdnbench_kernels.fused_linear.api import Input, Output
    from gdnbench_kernels.fused_linear.impl import triton

    mixes, row, streams = len(output.get("mix_rows", ())), _half(batch, width), norm and group_size is None
    given = Input(
        x=_single(batch, width) if streams else row,
        add=row if streams else None,
        norm=_single(group_size or width) if norm else None,
        norm_bias=_single(width) if mixes else None,
        eps=1e-6,
        group_size=group_size or width,
        gate=row if group_size else None,
        gate_first=False,
        previous=row if mixes else None,
        mix=_single(mixes, width) if mixes else None,
    )
    wanted: dict[str, Any] = {
        "mix_rows": (),
        "activation": "none",
        "scale": 1.0,
        "dtype": row.dtype,
        "carry": None,
        "parts": False,
    } | output
    triton.fused_linear(given, _half(rows, width), Output(**wanted))


def _attention_decode(rows: int, heads: int, key_heads: int, dim: int, *, native: bool = False) -> None:
    """Run a token of attention in a capacity of 8192; ``native``: with norms and a convolution."""
    from gdnbench_kernels.attention_decode import gpu

    channels = (heads + 2 * key_heads) * dim
    lengths = torch.empty(rows, dtype=torch.int32, device="meta")
    keys, values = (_half(rows, 8192, key_heads, dim) for _ in "kv")
    frequencies = torch.empty(dim // 2, dtype=torch.float64, device="meta")
    options: dict[str, Any] = dict.fromkeys(("q_norm", "k_norm", "conv_weight", "ring"))
    if native:
        options |= {"q_norm": _single(dim), "k_norm": _single(dim)}
        options |= {"conv_weight": _half(4, channels).t(), "ring": _half(rows, 4, channels)}
    arrived = torch.empty(rows, key_heads, dtype=torch.int32, device="meta")
    fixed: dict[str, Any] = {"heads": heads, "scale": 0.1, "eps": 1e-6, "arrived": arrived, "settled": True}
    gpu.attention_decode(_half(rows, channels), keys, values, lengths, frequencies, **fixed, **options)


def _wkv7_decode(heads: int, dim: int) -> None:
    """Run a token of eight rows of RWKV-7."""
    from gdnbench_kernels.wkv7_decode import Maps, gpu

    width, ranks = heads * dim, {"value": 32, "decay": 64, "rate": 64, "gate": 128}
    ups = {f"{name}_up": _half(width, rank) for name, rank in ranks.items()}
    vectors = ("decay_bias", "rate_bias", "value_bias", "removal", "replacement", "bonus", "norm_weight", "norm_bias")
    maps = Maps(**ups, **{name: _single(width) for name in vectors})
    arrived = torch.empty(8, heads, dtype=torch.int32, device="meta")
    fixed: dict[str, Any] = {"eps": 1e-3, "arrived": arrived, "settled": True}
    gpu.wkv7_decode(
        _half(8, 3 * width + sum(ranks.values())), _half(8, width), _single(8, heads, dim, dim), maps, **fixed
    )


def _next_token() -> None:
    """Run the two ends of a step of eight rows, with likeliest and with drawn tokens."""
    from gdnbench_kernels.next_token import RowsOfTokens, gpu

    def whole(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    lengths, done, stops = whole(8), whole(8, dtype=torch.bool), whole(50304, dtype=torch.bool)
    rows = RowsOfTokens(whole(8, 8192), lengths, whole(8), done, stops)
    gpu.embed(_half(50304, 2048), rows, torch.float32)
    gpu.append(*gpu.best(_single(8, 50304)), rows)
    gpu.append(None, whole(8, 1, dtype=torch.int64), rows)


def _short_convolution() -> None:
    """Run the convolution of q, k and v side by side, with SiLU, forward and backward."""
    from gdnbench_kernels.short_convolution import gpu

    x = _half(8, 4096, 3 * 16 * 128)
    fixed = _half(x.shape[2], 4), None, None, None  # weight; neither bias, initial state nor packed sequences
    y, _ = gpu.forward(x, *fixed, True, False)
    gpu.backward(x, *fixed, y, None, True)


def _gated_norm() -> None:
    """Run the gated norm of 16 heads forward and backward."""
    from gdnbench_kernels.gated_norm import gpu

    x, z = (_half(8, 4096, 16, 128) for _ in range(2))
    weight = _single(128)
    y, rstd = gpu.forward(x, z, weight, 1e-5, False, None, None)
    gpu.backward(y, x, z, weight, rstd, False, None, None)


def _skipped_norm() -> None:
    """Run the norm of 64 heads in one row, gated before, with what goes around, forward and backward."""
    from gdnbench_kernels.gated_norm import gpu

    x, z, skipped = (_half(8, 4096, 4096) for _ in range(3))
    weight, *skips = _single(4096), skipped, _single(64)
    y, rstd = gpu.forward(x, z, weight, 1e-5, True, *skips)
    gpu.backward(y, x, z, weight, rstd, True, *skips)


def _add_norm() -> None:
    """Run the residual sum and norm of rows of 768 forward and backward."""
    from gdnbench_kernels.add_norm import gpu

    x, y = (_half(8, 4096, 768) for _ in "xy")
    total, *kept = gpu.forward(x, y, _single(768), 1e-6)
    gpu.backward(total, y, kept[0], _single(768), kept[1], False)


def _linear_cross_entropy() -> None:
    """Run the rows of a chunk of tokens over 32,000 words, with gradients and without."""
    from gdnbench_kernels.linear_cross_entropy import gpu

    targets = torch.empty(8192, dtype=torch.int64, device="meta")
    gpu.rows(_half(8192, 32000), targets, _single(8192), 1.0, True)
    gpu.rows(_single(8192, 32000), targets, _single(8192), 1.0, False)
