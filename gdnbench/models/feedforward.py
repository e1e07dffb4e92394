"""What follows a mixer in a block: the SwiGLU MLP of the controlled block, RWKV's channel mix, or nothing."""

from typing import Any

from gdnbench_kernels.fused_linear import fused_linear
from torch import Tensor
from torch.nn import functional as F

from gdnbench.errors import unknown
from gdnbench.models.config import ModelConfig
from gdnbench.models.mixer import Shared, State, StatefulLayer
from gdnbench.models.norm import LayerNorm, RMSNorm, as_arguments
from gdnbench.models.projection import Projection, project
from gdnbench.models.roles import Role, constant, curve, declare, normal
from gdnbench.models.serving import Serving, Slots, StepByStep, keeps, pack
from gdnbench.models.token_shift import mix_curve, shift


class SwiGLU(StatefulLayer):
    """``down(silu(gate x) * up x)`` (Shazeer 2020); it has no state."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.width, self.hidden = config.width, config.mlp_width_of(layer)
        init = normal(config.init_std)
        self.gate_proj = Projection(self.width, self.hidden, init=init)
        self.up_proj = Projection(self.width, self.hidden, init=init)
        self.down_proj = Projection(self.hidden, self.width, init=init)

    def forward(
        self, x: Tensor, state: State | None = None, shared: Shared | None = None
    ) -> tuple[Tensor, State | None]:
        """Map ``[B, T, D]`` position by position."""
        gate, up = project(x, self.gate_proj, self.up_proj)
        return self.down_proj(F.silu(gate) * up), state

    def init_state(self, batch_size: int) -> State:
        """Return an empty state."""
        return {}

    def state_bytes(self, context: int, element_size: int) -> int:
        """Nothing is carried."""
        return 0

    def parameter_count(self) -> int:
        """Three matrices of D x hidden."""
        return 3 * self.width * self.hidden

    def flops_per_token(self, context: int) -> int:
        """A multiply-add a weight; the element-wise product and SiLU are not counted."""
        return 2 * self.parameter_count()

    def serve(self, norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float = 1.0) -> Serving:
        """Return the layer in two operations a token; a variant that computes otherwise is served by its steps."""
        serving = SwiGLUServing if keeps(self, SwiGLU) else StepByStep
        return serving(self, norm, slots, factor=factor)


class SwiGLUServing(StepByStep):
    """The norm with both products of the input, and the last one."""

    takes_parts = True

    def __init__(self, layer: SwiGLU, norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float):
        super().__init__(layer, norm, slots, factor=factor)
        self.inputs = pack([layer.gate_proj, layer.up_proj], slots.dtype)
        self.output = pack([layer.down_proj], slots.dtype)

    def step(self, x: Tensor, y: Tensor | None, shared: Shared) -> tuple[Tensor, Tensor]:
        """Run one token of every row."""
        impl = self.slots.impl("fused_linear")
        made = fused_linear(x, self.inputs, add=y, **as_arguments(self.norm), activation="swiglu", impl=impl)
        return made.total, fused_linear(made.y, self.output, scale=self.factor, parts=True, impl=impl).y


class ChannelMix(StatefulLayer):
    """RWKV's ``value(relu(key(x + (x_prev - x) * x_k))^2)`` with a token shift (RWKV-7, section 4.3)."""

    x_k: Tensor

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        # RWKV-7's own ratio is 4; two matrices instead of three.
        self.width, self.hidden = config.width, config.mlp_width_of(layer, ratio=4.0)
        depth_fraction = 1 - layer / config.depth
        mixing = curve(lambda: mix_curve(config.width, depth_fraction**4))
        declare(self, "x_k", (config.width,), Role(row="vector", fan_out=config.width, init=mixing))
        # An orthogonal matrix of 4 D x D, as the authors start it, has entries of this size.
        self.key = Projection(self.width, self.hidden, init=normal((4 * config.base_width) ** -0.5))
        self.value = Projection(self.hidden, self.width, init=constant(0.0))

    def forward(
        self, x: Tensor, state: State | None = None, shared: Shared | None = None
    ) -> tuple[Tensor, State | None]:
        """Map ``[B, T, D]``, each position also seeing the one before it."""
        previous = shift(x, None if state is None else state["last"])
        y = self.value(F.relu(self.key(x + (previous - x) * self.x_k)).square())
        return y, None if state is None else {"last": x[:, -1]}

    def init_state(self, batch_size: int) -> State:
        """Return a zero previous input ``[B, D]``."""
        return {"last": self.x_k.new_zeros(batch_size, self.width)}

    def state_bytes(self, context: int, element_size: int) -> int:
        """One input is carried."""
        return self.width * element_size

    def parameter_count(self) -> int:
        """Two matrices of D x hidden and the mixing vector."""
        return 2 * self.width * self.hidden + self.width

    def flops_per_token(self, context: int) -> int:
        """A multiply-add a matrix weight; element-wise work is not counted."""
        return 4 * self.width * self.hidden

    def serve(self, norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float = 1.0) -> Serving:
        """Return the layer in two operations a token; a variant that computes otherwise is served by its steps."""
        serving = ChannelMixServing if keeps(self, ChannelMix) else StepByStep
        return serving(self, norm, slots, factor=factor)


class ChannelMixServing(StepByStep):
    """The norm with the token shift and the first product, and the last one."""

    takes_parts = True

    def __init__(self, layer: ChannelMix, norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float):
        super().__init__(layer, norm, slots, factor=factor)
        self.inputs, self.output = pack([layer.key], slots.dtype), pack([layer.value], slots.dtype)
        self.mix = layer.x_k.detach()[None]

    def step(self, x: Tensor, y: Tensor | None, shared: Shared) -> tuple[Tensor, Tensor]:
        """Run one token of every row; the last product also takes the input over, which the first one still reads."""
        impl, last = self.slots.impl("fused_linear"), self.state["last"]
        shifted: dict[str, Any] = {"previous": last, "mix": self.mix, "mix_rows": [len(self.inputs)]}
        norm = as_arguments(self.norm)
        made = fused_linear(x, self.inputs, add=y, **norm, **shifted, activation="relu2", impl=impl)
        assert made.normed is not None
        carry = made.normed, last
        return made.total, fused_linear(made.y, self.output, scale=self.factor, parts=True, carry=carry, impl=impl).y


FEEDFORWARDS: dict[str, type[StatefulLayer] | None] = {"swiglu": SwiGLU, "channel_mix": ChannelMix, "none": None}


def build_feedforward(kind: str, config: ModelConfig, layer: int) -> StatefulLayer | None:
    """Return the layer called ``kind``, or None for ``none``."""
    if kind not in FEEDFORWARDS:
        raise unknown("feedforward", kind, FEEDFORWARDS)
    build = FEEDFORWARDS[kind]
    return None if build is None else build(config, layer)
