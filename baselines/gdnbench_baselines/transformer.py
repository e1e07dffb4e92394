"""Causal softmax attention with rotary positions and grouped heads (Vaswani 2017; Su 2021; Ainslie 2023)."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from gdnbench_kernels.attention import attention
from gdnbench_kernels.attention_decode import attention_decode
from gdnbench_kernels.fused_linear import fused_linear
from gdnbench_kernels.short_convolution import ring as rings
from torch import Tensor

from gdnbench.errors import GdnbenchError, WidthError
from gdnbench.models.config import ModelConfig
from gdnbench.models.convolution import ShortConvolution, convolve, empty_tail
from gdnbench.models.convolved import pack_taps
from gdnbench.models.mixer import Mixer, Shared, State
from gdnbench.models.norm import LayerNorm, RMSNorm, as_arguments, norm_and_gate
from gdnbench.models.projection import ALIGNED, Projection, project
from gdnbench.models.roles import Multiplier, normal
from gdnbench.models.serving import Serving, Slots, keeps, pack


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of attention. Dimensions and heads are those at the base width.

    Attributes:
        heads: query heads.
        kv_heads: key and value heads, a divisor of ``heads``; None: as many.
        head_dim: even; None: base width / heads.
        rope_theta: base of the rotary wavelengths.
        qk_norm: whether queries and keys are RMS-normalized by head (native block).
        conv_size: width of a short convolution on q, k and v; 0: none (native block: 4, as in GDN).
        output_gate: whether the output is normalized by head and gated by SiLU (native block, as in GDN).
    """

    heads: int = 4
    kv_heads: int | None = None
    head_dim: int | None = None
    rope_theta: float = 1e4
    qk_norm: bool = False
    conv_size: int = 0
    output_gate: bool = False


class Attention(Mixer):
    """Softmax attention; its state is the cache of keys and values."""

    Options = Options
    native_options: ClassVar = {"qk_norm": True, "conv_size": 4, "output_gate": True}

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        options = self.options(config, "transformer", Options)
        kv_heads = options.kv_heads or options.heads
        if options.heads % kv_heads:
            raise GdnbenchError(
                f"model.options.transformer: {options.heads} heads are no multiple of {kv_heads} kv_heads"
            )
        if options.head_dim is None and config.base_width % options.heads:
            raise GdnbenchError(
                f"model.base_width {config.base_width} is no multiple of {options.heads} heads; set head_dim"
            )
        self.width, self.theta = config.width, options.rope_theta
        self.heads = config.head_count("the number of heads", options.heads)
        self.kv_heads = config.head_count("the number of key-value heads", kv_heads)
        base_dim = options.head_dim or config.base_width // options.heads
        self.head_dim = config.head_dim("the head dim", base_dim)
        if self.head_dim % 2:
            raise WidthError(f"width {config.width}: rotary positions need an even head dim, got {self.head_dim}")
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        init = normal(config.init_std)
        self.q_proj = Projection(self.width, queries, init=init)
        self.k_proj = Projection(self.width, keys, init=init)
        self.v_proj = Projection(self.width, keys, init=init)
        self.o_proj = Projection(queries, self.width, init=init)
        self.scale = Multiplier("attention_scale", fan_in=self.head_dim, base=lambda dim: dim**-0.5)
        self.convs = torch.nn.ModuleList(
            ShortConvolution(channels, options.conv_size) for channels in (queries, keys, keys) if options.conv_size
        )
        self.q_norm = RMSNorm(self.head_dim, eps=config.norm_eps, row="head_norm") if options.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, eps=config.norm_eps, row="head_norm") if options.qk_norm else None
        self.g_proj = Projection(self.width, queries, init=init) if options.output_gate else None
        self.o_norm = RMSNorm(self.head_dim, eps=config.norm_eps, row="head_norm") if options.output_gate else None
        self.uses(config, "attention")
        if options.conv_size:
            self.uses(config, "short_convolution")
        if options.output_gate:
            self.uses(config, "gated_norm")

    def forward(
        self, x: Tensor, state: State | None = None, shared: Shared | None = None
    ) -> tuple[Tensor, State | None]:
        """Map ``[B, T, D]``; with a state, attend to its keys and values too."""
        projections = (self.q_proj, self.k_proj, self.v_proj)
        gates = () if self.g_proj is None else (self.g_proj,)
        new: State = {}
        if convs := self._convs():
            tail, impl = None if state is None else state["tail"], self.impl["short_convolution"]
            wide, *gate = project(x, projections, *gates)
            (q, k, v), _, tail = convolve(convs, wide, tail, impl=impl)
            new |= {} if tail is None else {"tail": tail}
        else:
            q, k, v, *gate = project(x, *projections, *gates)
        q, k, v = (part.unflatten(-1, (-1, self.head_dim)) for part in (q, k, v))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        past = 0 if state is None else int(state["length"])
        if state is None and shared is not None and "rotation" in shared:
            rotation = shared["rotation"]
        else:
            rotation = self._rotation(x, past, past + x.shape[1])
        q, k = _rotate(q, rotation), _rotate(k, rotation)
        if state is not None:
            new |= _append(state, k, v)
            k, v = new["k"][:, : past + x.shape[1]], new["v"][:, : past + x.shape[1]]
        o = attention(q, k, v, scale=self.scale.value, impl=self.impl["attention"])
        if self.o_norm is not None:
            o = norm_and_gate(self.o_norm, o, gate[0].unflatten(-1, (-1, self.head_dim)), impl=self.impl["gated_norm"])
        return self.o_proj(o.flatten(2)), None if state is None else new

    def serve(self, norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float = 1.0) -> Serving:
        """Return the layer in three operations a token, over caches that are as long as they may become.

        A variant that computes otherwise is served by its steps.
        """
        if not keeps(self, Attention, "_rotation", "frequencies"):
            return super().serve(norm, slots, factor=factor)
        return AttentionServing(self, norm, slots, factor=factor)

    def _convs(self) -> list[ShortConvolution]:
        return [conv for conv in self.convs if isinstance(conv, ShortConvolution)]

    def shares(self, x: Tensor) -> Shared:
        """Return the cosines and sines of all positions' angles."""
        return {"rotation": self._rotation(x, 0, x.shape[1])}

    def _rotation(self, x: Tensor, start: int, end: int) -> Tensor:
        """Return cosines and sines ``[2, end - start, 1, head_dim / 2]`` for positions, on the device of x."""
        positions = torch.arange(start, end, device=x.device, dtype=torch.float64)
        angles = (positions[:, None] * self.frequencies(x.device))[:, None]
        return torch.stack([angles.cos(), angles.sin()]).to(torch.promote_types(x.dtype, torch.float32))

    def frequencies(self, device: torch.device) -> Tensor:
        """Return the angles by which channels turn from token to token, float64 ``[head_dim / 2]``."""
        half = self.head_dim // 2
        return self.theta ** (-torch.arange(half, device=device, dtype=torch.float64) / half)

    def init_state(self, batch_size: int) -> State:
        """Return an empty cache; it grows by doubling, so that a token costs no copy of all before it."""
        empty = self._empty(batch_size, 0, self.kv_heads, self.head_dim)
        tail = {"tail": empty_tail(convs, batch_size)} if (convs := self._convs()) else {}
        return {"k": empty, "v": empty, "length": torch.zeros((), dtype=torch.int64), **tail}

    def state_bytes(self, context: int, element_size: int) -> int:
        """A key and a value by token and head, and the convolutions' tails; not what the cache reserves ahead."""
        tails = sum((conv.size - 1) * conv.channels for conv in self._convs())
        return (2 * context * self.kv_heads * self.head_dim + tails) * element_size

    def parameter_count(self) -> int:
        """q and o (and the gate): D x H head_dim each; k and v: D x HKV head_dim each; norms and convolutions."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        matrices = self.width * ((3 if self.g_proj is not None else 2) * queries + 2 * keys)
        norms = sum(self.head_dim for norm in (self.q_norm, self.k_norm, self.o_norm) if norm is not None)
        return matrices + norms + sum(conv.parameter_count() for conv in self._convs())

    def flops_per_token(self, context: int) -> int:
        """A multiply-add a matrix weight; scores and values ``4 H head_dim`` a visible key, ``(T + 1) / 2`` of them."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        matrices = 2 * self.width * ((3 if self.g_proj is not None else 2) * queries + 2 * keys)
        convs = sum(conv.flops_per_token() for conv in self._convs())
        return matrices + convs + 2 * queries * (context + 1)


class AttentionServing(Serving):
    """The norm and all projections of the input; all that is between projections; what is left of the output's.

    Its state is that of `Attention`, but for lengths, which `Slots` has, and the tail, which is kept as a ring.
    """

    takes_parts = True

    def __init__(self, layer: Attention, norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float):
        self.layer, self.norm, self.slots, self.factor = layer, norm, slots, factor
        gates = [] if layer.g_proj is None else [layer.g_proj]
        self.inputs = pack([layer.q_proj, layer.k_proj, layer.v_proj, *gates], slots.dtype, multiple=ALIGNED)
        self.output, device = pack([layer.o_proj], slots.dtype), self.inputs.device
        rows, convs = slots.batch_size, layer._convs()
        cache = torch.empty(0, dtype=slots.dtype, device=device)
        sizes = rows, slots.capacity, layer.kv_heads, layer.head_dim
        self.state: State = {"k": cache.new_zeros(sizes), "v": cache.new_zeros(sizes)}
        self.fixed: dict[str, Any] = {
            "frequencies": layer.frequencies(device) / (2 * math.pi),
            "arrived": torch.zeros(rows, layer.kv_heads, dtype=torch.int32, device=device),
            "impl": slots.impl("attention_decode"),
        }
        if convs:
            size, channels = convs[0].size, sum(conv.channels for conv in convs)
            self.state["tail"] = cache.new_zeros(rows, size, channels)
            self.fixed |= {"conv_weight": pack_taps(convs, slots.dtype), "ring": self.state["tail"]}
        if layer.q_norm is not None and layer.k_norm is not None:
            weights = {"q_norm": layer.q_norm.weight.detach(), "k_norm": layer.k_norm.weight.detach()}
            self.fixed |= {**weights, "eps": layer.q_norm.eps}

    def step(self, x: Tensor, y: Tensor | None, shared: Shared) -> tuple[Tensor, Tensor]:
        """Run one token of every row."""
        layer, impl = self.layer, self.slots.impl("fused_linear")
        made = fused_linear(x, self.inputs, add=y, **as_arguments(self.norm), impl=impl)
        o = attention_decode(
            made.y,
            self.state["k"],
            self.state["v"],
            self.slots.lengths,
            heads=layer.heads,
            scale=layer.scale.value,
            settled=True,
            **self.fixed,
        )
        gate: dict[str, Any] = {}
        if layer.o_norm is not None:
            first = (layer.heads + 2 * layer.kv_heads) * layer.head_dim
            gate = {"gate": made.y[:, first : first + o.shape[1]], "group_size": layer.head_dim}
            gate |= as_arguments(layer.o_norm)
        return made.total, fused_linear(o, self.output, **gate, scale=self.factor, parts=True, impl=impl).y

    def begin(self, rows: slice) -> State:
        """Return a state whose caches are the room of these rows."""
        caches = {name: self.state[name][rows] for name in ("k", "v")}
        return self.layer.init_state(len(caches["k"])) | caches

    def load(self, rows: slice, state: State) -> None:
        """Copy what is filled, unless it lies here already."""
        length = int(state["length"])
        for name in ("k", "v"):
            cache = self.state[name][rows]
            if cache.data_ptr() != state[name].data_ptr():
                cache[:, :length] = state[name][:, :length]
        if "tail" in state:
            rings.load(self.state["tail"][rows], self.slots.lengths[rows], state["tail"])

    def unload(self, rows: slice) -> State:
        """Copy what is filled, of rows that hold equally many tokens."""
        lengths = self.slots.lengths[rows].tolist()
        if len(set(lengths)) > 1:
            raise GdnbenchError(f"rows of {sorted(set(lengths))} tokens have no state in common; take them one by one")
        caches = {name: self.state[name][rows, : lengths[0]].clone() for name in ("k", "v")}
        tail = {}
        if "tail" in self.state:
            tail["tail"] = rings.unload(self.state["tail"][rows], self.slots.lengths[rows])
        return {**caches, "length": torch.tensor(lengths[0]), **tail}


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn ``x [B, T, H, head_dim]`` by the angles of its positions."""
    cos, sin = rotation
    a, b = x.chunk(2, -1)
    return torch.cat([(a * cos - b * sin).to(x.dtype), (a * sin + b * cos).to(x.dtype)], -1)


def _append(state: State, k: Tensor, v: Tensor) -> State:
    """Write ``k, v [B, T, H, D]`` behind the cached ones; the buffers double when they are full."""
    length, total = int(state["length"]), int(state["length"]) + k.shape[1]
    buffers = {"k": state["k"], "v": state["v"]}
    for name, new in (("k", k), ("v", v)):
        if total > buffers[name].shape[1]:
            grown = new.new_zeros(new.shape[0], max(total, 2 * length), *new.shape[2:])
            grown[:, :length] = buffers[name][:, :length]
            buffers[name] = grown
        buffers[name][:, length:total] = new
    return {**buffers, "length": torch.tensor(total)}
