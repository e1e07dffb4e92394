"""Mamba-2 (Dao, Gu: Transformers are SSMs, arXiv 2405.21060, figure 6)."""

from dataclasses import dataclass

import torch
from gdnbench_kernels.fused_linear import fused_linear
from gdnbench_kernels.ssd import ssd, ssd_step
from gdnbench_kernels.ssd_decode import ssd_decode
from torch import Tensor
from torch.nn import functional as F

from gdnbench.errors import GdnbenchError
from gdnbench.models.config import ModelConfig
from gdnbench.models.convolution import ShortConvolution, convolve, empty_tail
from gdnbench.models.convolved import ConvolvedServing, pack_taps
from gdnbench.models.mixer import Mixer, Shared, State
from gdnbench.models.norm import LayerNorm, RMSNorm, as_arguments, gate_and_norm
from gdnbench.models.projection import ALIGNED, Projection, project
from gdnbench.models.roles import Init, Role, constant, declare, normal
from gdnbench.models.serving import Serving, Slots, keeps, pack
from gdnbench.models.spread import inverse_softplus, log_spread, spread


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of Mamba-2. Dimensions and heads are those at the base width.

    Attributes:
        expand: inner width over model width.
        head_dim: head dim; None: base width * expand / 4.
        state_dim: size N of the state by channel, the same at every width.
        groups: heads share B and C by group.
        conv_size: width of the short convolutions on x, B and C.
        decay_range: A is spread over this range.
        step_range: softplus(dt_bias) is spread over this range, evenly in the logarithm.
    """

    expand: int = 2
    head_dim: int | None = None
    state_dim: int = 128
    groups: int = 1
    conv_size: int = 4
    decay_range: tuple[float, float] = (1.0, 16.0)
    step_range: tuple[float, float] = (1e-3, 0.1)


class Mamba2(Mixer):
    """State space duality between convolutions and a gated norm; its native block has no MLP and twice the depth."""

    Options = Options
    native_feedforward = "none"
    native_depth = 2

    A_log: Tensor
    dt_bias: Tensor
    D: Tensor

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self.uses(config, "ssd", "short_convolution", "gated_norm")
        options = self.options(config, "mamba2", Options)
        base_inner = config.base_width * options.expand
        base_dim = options.head_dim or max(1, base_inner // 4)
        if base_inner % base_dim:
            raise GdnbenchError(
                f"model.options.mamba2: the inner width {base_inner} at the base width is no multiple of "
                f"head_dim {base_dim}"
            )
        self.width, self.inner = config.width, config.width * options.expand
        self.head_dim = config.head_dim("the head dim", base_dim)
        self.heads = config.head_count("the number of heads", base_inner // base_dim)
        self.groups, self.state_dim = options.groups, options.state_dim
        if self.heads % self.groups:
            raise GdnbenchError(f"model.options.mamba2: {self.heads} heads are no multiple of {self.groups} groups")
        states, init = self.groups * self.state_dim, normal(config.init_std)
        self.z_proj = Projection(self.width, self.inner, init=init)
        self.x_proj = Projection(self.width, self.inner, init=init)
        self.b_proj = Projection(self.width, states, init=init, row="state_proj")
        self.c_proj = Projection(self.width, states, init=init, row="state_proj")
        self.dt_proj = Projection(self.width, self.heads, init=init, row="gate")
        self.out_proj = Projection(self.inner, self.width, init=init)
        self.x_conv = ShortConvolution(self.inner, options.conv_size, bias=True)
        self.b_conv = ShortConvolution(states, options.conv_size, bias=True)
        self.c_conv = ShortConvolution(states, options.conv_size, bias=True)
        decays = Init(sample=lambda shape, rng: spread(shape[0], options.decay_range, rng).log())
        steps = Init(sample=lambda shape, rng: inverse_softplus(log_spread(shape[0], options.step_range, rng)))
        for name, start in (("A_log", decays), ("dt_bias", steps), ("D", constant(1.0))):
            declare(self, name, (self.heads,), Role(row="gate_scalar", fan_out=self.heads, init=start))
        self.norm = RMSNorm(self.inner, eps=config.norm_eps)

    def forward(
        self, x: Tensor, state: State | None = None, shared: Shared | None = None
    ) -> tuple[Tensor, State | None]:
        """Map ``[B, T, D]``; with a state, continue it."""
        z, inputs, tail = self._inputs(x, None if state is None else state["tail"])
        o, memory = ssd(
            **inputs,
            initial_state=None if state is None else state["memory"],
            output_final_state=state is not None,
            impl=self.impl["ssd"],
        )
        y = self._output(o, inputs["x"], z)
        return y, None if memory is None or tail is None else {"tail": tail, "memory": memory}

    def step(self, x: Tensor, state: State, shared: Shared | None = None) -> tuple[Tensor, State]:
        """Map one token ``[B, D]`` by the recurrence itself."""
        z, inputs, tail = self._inputs(x[:, None], state["tail"])
        assert tail is not None
        o, memory = ssd_step(**{name: value[:, 0] for name, value in inputs.items()}, state=state["memory"])
        return self._output(o[:, None], inputs["x"], z)[:, 0], {"tail": tail, "memory": memory}

    def serve(self, norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float = 1.0) -> Serving:
        """Return the layer in three operations a token; a variant that computes otherwise is served by its steps."""
        if not keeps(self, Mamba2, "_inputs", "_output"):
            return super().serve(norm, slots, factor=factor)
        return Mamba2Serving(self, norm, slots, factor=factor)

    def _inputs(self, x: Tensor, tail: Tensor | None) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Return the output gate ``[B, T, inner]``, what the recurrence takes, and the convolutions' new tail."""
        wide, z = project(x, (self.x_proj, self.b_proj, self.c_proj, self.dt_proj), self.z_proj)
        (u, b, c), rest, tail = convolve(self._convs(), wide, tail, impl=self.impl["short_convolution"])
        dt, *_ = rest.split([self.heads, rest.shape[-1] - self.heads], -1)
        dt = F.softplus(dt + self.dt_bias)
        b, c = (t.unflatten(-1, (self.groups, self.state_dim)) for t in (b, c))
        u = u.unflatten(-1, (self.heads, self.head_dim))
        return z, {"c": c, "b": b, "x": u, "g": -self.A_log.exp() * dt, "dt": dt}, tail

    def _output(self, o: Tensor, u: Tensor, z: Tensor) -> Tensor:
        """Add the skip ``D u``, gate by SiLU, normalize over the inner width and project."""
        return self.out_proj(gate_and_norm(self.norm, o, z, u, self.D, impl=self.impl["gated_norm"]))

    def init_state(self, batch_size: int) -> State:
        """Return a zero memory ``[B, H, N, P]`` and the convolutions' empty tail."""
        memory = self._empty(batch_size, self.heads, self.state_dim, self.head_dim)
        return {"tail": empty_tail(self._convs(), batch_size), "memory": memory}

    def state_bytes(self, context: int, element_size: int) -> int:
        """N numbers by inner channel and the convolutions' tails, whatever the context."""
        tails = (self.x_conv.size - 1) * self._convolved()
        return (self.inner * self.state_dim + tails) * element_size

    def parameter_count(self) -> int:
        """z, x, out: D x inner each; B, C: D x GN each; dt: D x H; biased convolutions; three scalars a head; norm."""
        return self._matrix_weights() + (self.x_conv.size + 1) * self._convolved() + 3 * self.heads + self.inner

    def flops_per_token(self, context: int) -> int:
        """A multiply-add a matrix weight; the recurrence writes and reads ``2 * 2 N`` by inner channel.

        As for every mixer, the recurrence is counted by its definition, not by a chunked form's extra arithmetic.
        """
        convs = 2 * self.x_conv.size * self._convolved()
        return 2 * self._matrix_weights() + convs + 4 * self.inner * self.state_dim

    def _matrix_weights(self) -> int:
        return self.width * (3 * self.inner + 2 * self.groups * self.state_dim + self.heads)

    def _convolved(self) -> int:
        return self.inner + 2 * self.groups * self.state_dim

    def _convs(self) -> list[ShortConvolution]:
        return [self.x_conv, self.b_conv, self.c_conv]


class Mamba2Serving(ConvolvedServing):
    """The norm and all projections of the input; what is between projections; the gate, its norm and the last one."""

    takes_parts = True

    def __init__(self, layer: Mamba2, norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float):
        super().__init__(layer, slots)
        self.layer, self.norm, self.factor = layer, norm, factor
        inputs = [layer.x_proj, layer.b_proj, layer.c_proj, layer.z_proj, layer.dt_proj]
        self.inputs, self.output = pack(inputs, slots.dtype, multiple=ALIGNED), pack([layer.out_proj], slots.dtype)
        sizes = [layer._convolved(), layer.inner, layer.heads]
        self.parts = [*sizes, len(self.inputs) - sum(sizes)]
        self.taps, wide = pack_taps(layer._convs(), slots.dtype), torch.promote_types(slots.dtype, torch.float32)
        self.bias = torch.cat([conv.bias.detach() for conv in layer._convs() if conv.bias is not None]).to(wide)
        scalars = {"A_log": layer.A_log, "dt_bias": layer.dt_bias, "D": layer.D}
        self.scalars = {name: value.detach().to(wide) for name, value in scalars.items()}

    def step(self, x: Tensor, y: Tensor | None, shared: Shared) -> tuple[Tensor, Tensor]:
        """Run one token of every row."""
        impl = self.slots.impl
        made = fused_linear(x, self.inputs, add=y, **as_arguments(self.norm), impl=impl("fused_linear"))
        xbc, z, dt, _ = made.y.split(self.parts, 1)
        settings = self.buffers() | self.scalars
        o = ssd_decode(xbc, dt, self.taps, self.bias, **settings, impl=impl("ssd_decode"))
        norm = as_arguments(self.layer.norm)
        out = fused_linear(
            o, self.output, gate=z, gate_first=True, **norm, scale=self.factor, parts=True, impl=impl("fused_linear")
        )
        return made.total, out.y
