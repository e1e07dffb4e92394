"""Gated DeltaNet (Yang, Kautz, Hatamizadeh: Gated Delta Networks, arXiv 2412.06464, figure 1)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from gdnbench_kernels.fused_linear import fused_linear
from gdnbench_kernels.gated_delta import gated_delta_rule, gated_delta_rule_step
from gdnbench_kernels.gated_delta_decode import gated_delta_decode
from torch import Tensor
from torch.nn import functional as F

from gdnbench.errors import GdnbenchError
from gdnbench.models.config import ModelConfig
from gdnbench.models.convolution import ShortConvolution, convolve, empty_tail
from gdnbench.models.convolved import ConvolvedServing, pack_taps
from gdnbench.models.mixer import Mixer, Shared, State
from gdnbench.models.norm import LayerNorm, RMSNorm, as_arguments, norm_and_gate
from gdnbench.models.projection import ALIGNED, Projection, project
from gdnbench.models.roles import Init, Multiplier, Role, declare, normal
from gdnbench.models.serving import Serving, Slots, keeps, pack
from gdnbench.models.spread import inverse_softplus, log_spread, spread


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of GDN. Dimensions and heads are those at the base width; the defaults are those of arXiv 2606.04048.

    Attributes:
        heads: query and key heads.
        value_heads: value heads, a multiple of ``heads``; None: as many.
        head_k_dim: key head dim; None: base width / 8.
        head_v_dim: value head dim; None: base width / 4.
        conv_size: width of the short convolutions.
        conv_values: whether v is convolved too (released code: yes; the paper's text names q and k only).
        qk_scale: factor of q; the released code leaves flash-linear-attention's default, the key head dim ^ -1/2.
        output_multiplier: whether the readout is scaled by the base width's key head dim ^ 1/2 before its norm, as the
            paper's text has it; no released code does.
        decay_range: A is spread over this range, at least 1e-3 (the released code draws it from U(0, 16)).
        step_range: softplus(dt_bias) is spread over this range, evenly in the logarithm.
        decay_init: ``stratified``: A and dt at the quantiles of their ranges, paired at random; ``random``: drawn.
        negative_eigenvalues: whether beta reaches 2 instead of 1.
    """

    heads: int = 6
    value_heads: int | None = None
    head_k_dim: int | None = None
    head_v_dim: int | None = None
    conv_size: int = 4
    conv_values: bool = True
    qk_scale: Literal["1", "fla"] = "1"
    output_multiplier: bool = True
    decay_range: tuple[float, float] = (0.0, 16.0)
    step_range: tuple[float, float] = (1e-3, 0.1)
    decay_init: Literal["stratified", "random"] = "stratified"
    negative_eigenvalues: bool = False


class GatedDeltaNet(Mixer):
    """The gated delta rule between short convolutions and a gated output norm."""

    Options = Options

    A_log: Tensor
    dt_bias: Tensor

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self.uses(config, "gated_delta", "short_convolution", "gated_norm")
        options = self.options(config, "gdn", Options)
        value_heads = options.value_heads or options.heads
        if value_heads % options.heads:
            raise GdnbenchError(
                f"model.options.gdn: {value_heads} value_heads are no multiple of {options.heads} heads"
            )
        self.width = config.width
        self.heads = config.head_count("the number of heads", options.heads)
        self.value_heads = config.head_count("the number of value heads", value_heads)
        self.key_dim = config.head_dim("the key head dim", options.head_k_dim or max(1, config.base_width // 8))
        self.value_dim = config.head_dim("the value head dim", options.head_v_dim or max(1, config.base_width // 4))
        self.beta_range = 2.0 if options.negative_eigenvalues else 1.0
        keys, values, init = self.heads * self.key_dim, self.value_heads * self.value_dim, normal(config.init_std)
        self.q_proj = Projection(self.width, keys, init=init)
        self.k_proj = Projection(self.width, keys, init=init)
        self.v_proj = Projection(self.width, values, init=init)
        self.g_proj = Projection(self.width, values, init=init)
        self.a_proj = Projection(self.width, self.value_heads, init=init, row="gate")
        self.b_proj = Projection(self.width, self.value_heads, init=init, row="gate")
        self.o_proj = Projection(values, self.width, init=init)
        self.q_conv = ShortConvolution(keys, options.conv_size)
        self.k_conv = ShortConvolution(keys, options.conv_size)
        self.v_conv = ShortConvolution(values, options.conv_size) if options.conv_values else None
        for name, start in (("A_log", _decay_init(options)), ("dt_bias", _step_init(options))):
            declare(self, name, (self.value_heads,), Role(row="gate_scalar", fan_out=self.value_heads, init=start))
        # What scales the readout at the base width; in between nothing happens, so that both factors are one.
        power = (0.5 if options.output_multiplier else 0.0) - (0.5 if options.qk_scale == "fla" else 0.0)
        self.output_scale = Multiplier("delta_output", fan_in=self.key_dim, base=lambda dim: dim**power)
        self.o_norm = RMSNorm(self.value_dim, eps=config.norm_eps, row="head_norm")

    def forward(
        self, x: Tensor, state: State | None = None, shared: Shared | None = None
    ) -> tuple[Tensor, State | None]:
        """Map ``[B, T, D]``; with a state, continue it."""
        gate, inputs, tail = self._inputs(x, None if state is None else state["tail"])
        o, memory = gated_delta_rule(
            **inputs,
            **self._activation(),
            initial_state=None if state is None else state["memory"],
            output_final_state=state is not None,
            impl=self.impl["gated_delta"],
        )
        y = self._output(o, gate)
        return y, None if memory is None or tail is None else {"tail": tail, "memory": memory}

    def step(self, x: Tensor, state: State, shared: Shared | None = None) -> tuple[Tensor, State]:
        """Map one token ``[B, D]`` by the recurrence itself."""
        gate, inputs, tail = self._inputs(x[:, None], state["tail"])
        assert tail is not None
        o, memory = gated_delta_rule_step(
            **{name: value[:, 0] for name, value in inputs.items()},
            **self._activation(),
            state=state["memory"],
            impl=self.impl["gated_delta"],
        )
        return self._output(o[:, None], gate)[:, 0], {"tail": tail, "memory": memory}

    def serve(self, norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float = 1.0) -> Serving:
        """Return the layer in three operations a token; a variant that computes otherwise is served by its steps."""
        if not keeps(self, GatedDeltaNet, "_inputs", "_activation", "_output"):
            return super().serve(norm, slots, factor=factor)
        return GatedDeltaServing(self, norm, slots, factor=factor)

    def _inputs(self, x: Tensor, tail: Tensor | None) -> tuple[Tensor, dict[str, Any], Tensor | None]:
        """Return the output gate ``[B, T, HV V]``, what the recurrence takes, and the convolutions' new tail."""
        convs, impl, gates = self._convs(), self.impl["short_convolution"], (self.a_proj, self.b_proj)
        if self.v_conv is None:
            wide, v, gate = project(x, (self.q_proj, self.k_proj, *gates), self.v_proj, self.g_proj)
            (q, k), rest, tail = convolve(convs, wide, tail, impl=impl)
            v = F.silu(v)
        else:
            wide, gate = project(x, (self.q_proj, self.k_proj, self.v_proj, *gates), self.g_proj)
            (q, k, v), rest, tail = convolve(convs, wide, tail, impl=impl)
        g, beta, *_ = rest.split(self.value_heads, -1)
        q, k = (t.unflatten(-1, (self.heads, self.key_dim)) for t in (q, k))
        v = v.unflatten(-1, (self.value_heads, self.value_dim))
        return gate, {"q": q, "k": k, "v": v, "g": g, "beta": beta}, tail

    def _activation(self) -> dict[str, Any]:
        """Return how the recurrence makes keys, decays and strengths of its raw inputs, and scales its output."""
        return {
            "scale": self.output_scale.value,
            "normalize_qk": True,
            "A_log": self.A_log,
            "dt_bias": self.dt_bias,
            "beta_range": self.beta_range,
        }

    def _output(self, o: Tensor, gate: Tensor) -> Tensor:
        """Normalize by head, gate by SiLU and project: ``[B, T, HV, V]`` to ``[B, T, D]``."""
        gate = gate.unflatten(-1, (self.value_heads, self.value_dim))
        return self.o_proj(norm_and_gate(self.o_norm, o, gate, impl=self.impl["gated_norm"]).flatten(2))

    def probes(self, x: Tensor) -> dict[str, Tensor]:
        """Return the gates: alpha = e^g with ``g = -exp(A_log) softplus(z_alpha + dt_bias)``, and beta."""
        g = -self.A_log.exp() * F.softplus(self.a_proj(x) + self.dt_bias)
        return {"alpha": g.exp(), "beta": self.beta_range * self.b_proj(x).sigmoid()}

    def init_state(self, batch_size: int) -> State:
        """Return a zero memory ``[B, HV, K, V]`` and the convolutions' empty tail."""
        memory = self._empty(batch_size, self.value_heads, self.key_dim, self.value_dim)
        return {"tail": empty_tail(self._convs(), batch_size), "memory": memory}

    def state_bytes(self, context: int, element_size: int) -> int:
        """A K x V matrix by value head and the convolutions' tails, whatever the context."""
        tails = sum((conv.size - 1) * conv.channels for conv in self._convs())
        return (self.value_heads * self.key_dim * self.value_dim + tails) * element_size

    def parameter_count(self) -> int:
        """q, k: D x HK each; v, g, o: D x HV V each; two gates: D x HV each; scalars, norm and convolutions."""
        gates = 2 * self.value_heads
        return self._matrix_weights() + gates + self.value_dim + sum(conv.parameter_count() for conv in self._convs())

    def flops_per_token(self, context: int) -> int:
        """A multiply-add a matrix weight; the recurrence recalls, writes and reads: ``3 * 2 K V`` a value head.

        The chunked form does more arithmetic than the recurrence (by the chunk size), none of it counted: the count is
        that of the definition, so that it does not depend on a kernel's choices. Gates and norms are not counted.
        """
        recurrence = 6 * self.value_heads * self.key_dim * self.value_dim
        return 2 * self._matrix_weights() + recurrence + sum(conv.flops_per_token() for conv in self._convs())

    def _matrix_weights(self) -> int:
        keys, values = self.heads * self.key_dim, self.value_heads * self.value_dim
        return self.width * (2 * keys + 3 * values + 2 * self.value_heads)

    def _convs(self) -> list[ShortConvolution]:
        return [conv for conv in (self.q_conv, self.k_conv, self.v_conv) if conv is not None]


class GatedDeltaServing(ConvolvedServing):
    """The norm and all projections of the input; all that is between projections; the gated norm and the last one."""

    takes_parts = True

    def __init__(self, layer: GatedDeltaNet, norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float):
        super().__init__(layer, slots)
        self.layer, self.norm, self.factor = layer, norm, factor
        inputs = [layer.q_proj, layer.k_proj, layer.v_proj, layer.g_proj, layer.a_proj, layer.b_proj]
        self.inputs, self.output = pack(inputs, slots.dtype, multiple=ALIGNED), pack([layer.o_proj], slots.dtype)
        keys, values, heads = len(layer.q_proj.weight), len(layer.v_proj.weight), layer.value_heads
        sizes = [2 * keys + values, values, heads, heads]
        self.parts = [*sizes, len(self.inputs) - sum(sizes)]
        self.taps, wide = pack_taps(layer._convs(), slots.dtype), torch.promote_types(slots.dtype, torch.float32)
        scales = {"scale": layer.output_scale.value, "beta_range": layer.beta_range}
        gates = {"A_log": layer.A_log.detach().to(wide), "dt_bias": layer.dt_bias.detach().to(wide)}
        self.settings: dict[str, Any] = {**gates, **scales}

    def step(self, x: Tensor, y: Tensor | None, shared: Shared) -> tuple[Tensor, Tensor]:
        """Run one token of every row."""
        layer, impl, norm = self.layer, self.slots.impl, as_arguments(self.norm)
        made = fused_linear(x, self.inputs, add=y, **norm, impl=impl("fused_linear"))
        qkv, gate, g, beta, _ = made.y.split(self.parts, 1)
        settings = self.buffers() | self.settings
        o = gated_delta_decode(qkv, g, beta, self.taps, **settings, impl=impl("gated_delta_decode"))
        norm, size = as_arguments(layer.o_norm), layer.value_dim
        out = fused_linear(
            o,
            self.output,
            gate=gate,
            **norm,
            group_size=size,
            scale=self.factor,
            parts=True,
            impl=impl("fused_linear"),
        )
        return made.total, out.y


def _decay_init(options: Options) -> Init:
    random = options.decay_init == "random"
    return Init(sample=lambda shape, rng: spread(shape[0], options.decay_range, rng, random=random).clamp(1e-3).log())


def _step_init(options: Options) -> Init:
    random = options.decay_init == "random"
    return Init(
        sample=lambda shape, rng: inverse_softplus(log_spread(shape[0], options.step_range, rng, random=random))
    )
