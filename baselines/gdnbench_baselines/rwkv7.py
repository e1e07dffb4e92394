"""RWKV-7 time mixing (Peng et al.: RWKV-7 "Goose", arXiv 2503.14456, section 4)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from gdnbench_kernels.fused_linear import fused_linear
from gdnbench_kernels.wkv7 import wkv7, wkv7_step
from gdnbench_kernels.wkv7_decode import Maps, wkv7_decode
from torch import Tensor, nn
from torch.nn import functional as F

from gdnbench.errors import GdnbenchError
from gdnbench.models.config import ModelConfig
from gdnbench.models.mixer import Mixer, Shared, State
from gdnbench.models.norm import LayerNorm, RMSNorm, as_arguments, l2_normalize
from gdnbench.models.projection import ALIGNED, Projection
from gdnbench.models.roles import Init, Multiplier, Role, constant, curve, declare, normal
from gdnbench.models.serving import Serving, Slots, StepByStep, keeps, pack
from gdnbench.models.token_shift import mix_curve, shift

# The decay of a token is exp(-e^-0.5 sigmoid(...)), so at least 0.545 (section 4.1).
DECAY_BOUND = math.exp(-0.5)
# Powers of the initial token-shift curves, by what is mixed; from the authors' training code.
SHIFT_POWERS = {"r": 0.2, "w": 0.9, "k": 0.7, "v": 0.7, "a": 0.9, "g": 0.2}
FIRST_VALUE = "rwkv7_first_value"  # what the first layer hands to the others


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of RWKV-7. The head dim is that at the base width; ranks are the same at every width.

    Attributes:
        head_dim: head dim; None: base width / 4.
        decay_rank: rank of the decay's low-rank map.
        rate_rank: rank of the in-context learning rate's map.
        value_rank: rank of the value residual's map.
        gate_rank: rank of the output gate's map.
    """

    head_dim: int | None = None
    decay_rank: int = 32
    rate_rank: int = 32
    value_rank: int = 32
    gate_rank: int = 64


class LowRank(nn.Module):
    """``up(activation(down x)) (+ bias)``: a map of width to width through a small rank; it starts at its bias."""

    bias: Tensor | None

    def __init__(self, width: int, rank: int, *, up_std: float, bias: Init | None = None):
        super().__init__()
        self.down = Projection(width, rank, row="lora_down", init=constant(0.0))
        self.up = Projection(rank, width, row="lora_up", init=normal(up_std))
        if bias is None:
            self.bias = None
        else:
            declare(self, "bias", (width,), Role(row="vector", fan_out=width, init=bias))

    def forward(self, x: Tensor, activation: str = "none") -> Tensor:
        """Map ``[..., D]``; the activation of the hidden rank is none, tanh or sigmoid."""
        hidden = self.down(x)
        if activation != "none":
            hidden = hidden.tanh() if activation == "tanh" else hidden.sigmoid()
        y = self.up(hidden)
        return y if self.bias is None else y + self.bias


class TimeMix(Mixer):
    """RWKV-7's generalized delta rule with vector decay, in-context learning rate, value residual and token shift."""

    Options = Options
    native_feedforward = "channel_mix"
    native_norm = "layer"

    k_k: Tensor
    k_a: Tensor
    r_k: Tensor
    norm_weight: Tensor
    norm_bias: Tensor

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self.uses(config, "wkv7")
        options = self.options(config, "rwkv7", Options)
        base_dim = options.head_dim or max(1, config.base_width // 4)
        if config.base_width % base_dim:
            raise GdnbenchError(
                f"model.options.rwkv7: the base width {config.base_width} is no multiple of head_dim {base_dim}"
            )
        self.width = width = config.width
        self.head_dim = config.head_dim("the head dim", base_dim)
        self.heads = config.head_count("the number of heads", config.base_width // base_dim)
        self.head_eps = 1e-5 * self.head_dim  # the authors' 64e-5 for heads of 64
        self.ranks = [options.decay_rank, options.rate_rank, options.gate_rank]
        early = 1 - layer / config.depth
        for name, power in SHIFT_POWERS.items():
            mixing = curve(lambda power=power: mix_curve(width, power * early))  # type: ignore[misc]
            declare(self, f"x_{name}", (width,), Role(row="vector", fan_out=width, init=mixing))
        # The authors start these orthogonally, of entries fan_in^-1/2; a normal draw of that size is width-consistent.
        unit = config.base_width**-0.5
        self.r_proj = Projection(width, width, init=normal(unit))
        self.k_proj = Projection(width, width, init=normal(0.1 * unit))
        self.v_proj = Projection(width, width, init=normal(unit))
        self.o_proj = Projection(width, width, init=constant(0.0))
        bias = _bias_curves(width, self.head_dim, layer / max(1, config.depth - 1))
        self.decay = LowRank(width, options.decay_rank, up_std=0.1 * unit, bias=bias["decay"])
        self.rate = LowRank(width, options.rate_rank, up_std=0.1 * unit, bias=bias["rate"])
        self.gate = LowRank(width, options.gate_rank, up_std=0.1 * unit)
        self.value_mix = None
        if layer > 0:
            self.ranks.append(options.value_rank)
            self.value_mix = LowRank(width, options.value_rank, up_std=0.1 * unit, bias=bias["value"])
        for name, start in (("k_k", bias["removal"]), ("k_a", constant(1.02)), ("r_k", constant(-0.04))):
            declare(self, name, (width,), Role(row="vector", fan_out=width, init=start))
        self.bonus = Multiplier("bonus", fan_in=self.head_dim)
        gain = constant(((layer + 1) / config.depth) ** 0.7)
        declare(self, "norm_weight", (width,), Role(row="norm", fan_out=width, init=gain))
        declare(self, "norm_bias", (width,), Role(row="bias", fan_out=width, init=constant(0.0)))

    def forward(
        self, x: Tensor, state: State | None = None, shared: Shared | None = None
    ) -> tuple[Tensor, State | None]:
        """Map ``[B, T, D]``; with a state, continue it."""
        r, w, k, v, a, b, gate = self._inputs(x, state, shared)
        memory = None if state is None else state["memory"]
        o, carried = wkv7(
            r, w, k, v, a, b, initial_state=memory, output_final_state=state is not None, impl=self.impl["wkv7"]
        )
        y = self._output(o, r, k, v, gate)
        return y, None if carried is None else {"last": x[:, -1], "memory": carried}

    def step(self, x: Tensor, state: State, shared: Shared | None = None) -> tuple[Tensor, State]:
        """Map one token ``[B, D]`` by the recurrence itself."""
        r, w, k, v, a, b, gate = self._inputs(x[:, None], state, shared)
        r, w, k, v, a, b = (t[:, 0] for t in (r, w, k, v, a, b))
        o, memory = wkv7_step(r, w, k, v, a, b, state["memory"])
        y = self._output(o[:, None], r[:, None], k[:, None], v[:, None], gate)
        return y[:, 0], {"last": x, "memory": memory}

    def serve(self, norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float = 1.0) -> Serving:
        """Return the layer in three operations a token; a variant that computes otherwise is served by its steps."""
        if not keeps(self, TimeMix, "_inputs", "_output"):
            return super().serve(norm, slots, factor=factor)
        return TimeMixServing(self, norm, slots, factor=factor)

    def _inputs(self, x: Tensor, state: State | None, shared: Shared | None) -> tuple[Tensor, ...]:
        """Return r, log decay, k, v, removal and writing keys ``[B, T, H, head_dim]``, and the gate ``[B, T, D]``."""
        difference = shift(x, None if state is None else state["last"]) - x
        mixed = {name: x + difference * getattr(self, f"x_{name}") for name in SHIFT_POWERS}
        r, k, v = self.r_proj(mixed["r"]), self.k_proj(mixed["k"]), self.v_proj(mixed["v"])
        w = -DECAY_BOUND * self.decay(mixed["w"], "tanh").sigmoid()
        rate = self.rate(mixed["a"]).sigmoid()
        gate = self.gate(mixed["g"], "sigmoid")
        if shared is not None:
            first = shared.setdefault(FIRST_VALUE, v)
            if self.value_mix is not None:
                v = v + (first - v) * self.value_mix(mixed["v"]).sigmoid()
        heads = (self.heads, self.head_dim)
        removal = l2_normalize((k * self.k_k).unflatten(-1, heads), eps=1e-12)
        k = k * (1 + (rate - 1) * self.k_a)
        r, w, k, v, rate = (t.unflatten(-1, heads) for t in (r, w, k, v, rate))
        return r, w, k, v, -removal, removal * rate, gate

    def _output(self, o: Tensor, r: Tensor, k: Tensor, v: Tensor, gate: Tensor) -> Tensor:
        """Normalize by head, add the bonus ``(r . k r_k) v``, gate and project."""
        batch, time = o.shape[:2]
        normed = F.group_norm(
            o.flatten(0, 1).flatten(1),
            self.heads,
            self.norm_weight,
            self.norm_bias,
            eps=self.head_eps,
        ).view(batch, time, -1)
        weights = (r * k * self.r_k.view(self.heads, self.head_dim)).sum(-1, keepdim=True)
        return self.o_proj((normed + self.bonus(weights * v).flatten(2)) * gate)

    def init_state(self, batch_size: int) -> State:
        """Return a zero previous input ``[B, D]`` and a zero memory ``[B, H, head_dim, head_dim]``."""
        memory = self._empty(batch_size, self.heads, self.head_dim, self.head_dim)
        return {"last": self._empty(batch_size, self.width), "memory": memory}

    def state_bytes(self, context: int, element_size: int) -> int:
        """A head_dim x head_dim matrix by head, and one input, whatever the context."""
        return self.width * (self.head_dim + 1) * element_size

    def parameter_count(self) -> int:
        """Four D x D matrices; 2 D by rank of the low-rank maps; 13 vectors of D, one more with a value residual."""
        vectors = 6 + 2 + 3 + 2 + (1 if self.value_mix is not None else 0)
        return self.width * (4 * self.width + 2 * sum(self.ranks) + vectors)

    def flops_per_token(self, context: int) -> int:
        """A multiply-add a matrix weight; the recurrence recalls, removes, writes, reads: ``4 * 2 head_dim`` a channel.

        As for every mixer, the recurrence is counted by its definition, not by a chunked form's extra arithmetic.
        """
        matrices = 2 * self.width * (4 * self.width + 2 * sum(self.ranks))
        return matrices + 8 * self.width * self.head_dim


class TimeMixServing(StepByStep):
    """The norm, the token shift and all projections of the input; all that is between projections; the last one."""

    takes_parts = True

    def __init__(self, layer: TimeMix, norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float):
        super().__init__(layer, norm, slots, factor=factor)
        self.output, self.arrived = (
            pack([layer.o_proj], slots.dtype),
            slots.lengths.new_zeros(len(slots.lengths), layer.heads),
        )
        self.width, self.eps, value = layer.width, layer.head_eps, layer.value_mix
        mixed = {
            "r": [layer.r_proj],
            "k": [layer.k_proj],
            "v": [layer.v_proj, *([] if value is None else [value.down])],
            "w": [layer.decay.down],
            "a": [layer.rate.down],
            "g": [layer.gate.down],
        }
        self.inputs = pack(
            [projection for group in mixed.values() for projection in group], slots.dtype, multiple=ALIGNED
        )
        rows = [sum(len(projection.weight) for projection in group) for group in mixed.values()]
        self.mixes: dict[str, Any] = {
            "mix": torch.stack([getattr(layer, f"x_{name}").detach() for name in mixed]),
            "mix_rows": [*rows[:-1], len(self.inputs) - sum(rows[:-1])],
        }
        self.maps = Maps(
            decay_up=pack([layer.decay.up], slots.dtype),
            decay_bias=_bias(layer.decay),
            rate_up=pack([layer.rate.up], slots.dtype),
            rate_bias=_bias(layer.rate),
            gate_up=pack([layer.gate.up], slots.dtype),
            value_up=None if value is None else pack([value.up], slots.dtype),
            value_bias=None if value is None else _bias(value),
            removal=layer.k_k.detach(),
            replacement=layer.k_a.detach(),
            bonus=layer.bonus(layer.r_k.detach()),
            norm_weight=layer.norm_weight.detach(),
            norm_bias=layer.norm_bias.detach(),
        )

    def step(self, x: Tensor, y: Tensor | None, shared: Shared) -> tuple[Tensor, Tensor]:
        """Run one token of every row; the last product also takes the input over, which the first one still reads."""
        impl, last = self.slots.impl, self.state["last"]
        made = fused_linear(
            x, self.inputs, add=y, **as_arguments(self.norm), previous=last, **self.mixes, impl=impl("fused_linear")
        )
        first = shared.setdefault(FIRST_VALUE, made.y[:, 2 * self.width : 3 * self.width])
        o = wkv7_decode(
            made.y,
            None if self.maps.value_up is None else first,
            self.state["memory"],
            self.maps,
            eps=self.eps,
            arrived=self.arrived,
            settled=True,
            impl=impl("wkv7_decode"),
        )
        assert made.normed is not None
        carry = made.normed, last
        out = fused_linear(o, self.output, scale=self.factor, parts=True, carry=carry, impl=impl("fused_linear"))
        return made.total, out.y


def _bias(module: LowRank) -> Tensor:
    assert module.bias is not None
    return module.bias.detach()


def _bias_curves(width: int, head_dim: int, depth_fraction: float) -> dict[str, Init]:
    """Return the authors' initial curves over the channels: functions of n / D and of the place in the head only."""

    def line() -> Tensor:
        return torch.arange(width) / max(1, width - 1)

    def zigzag() -> Tensor:
        place = (torch.arange(width) % head_dim) / max(1, head_dim - 1) * 2 - 1
        return place * place.abs()

    power = 1 + depth_fraction**0.3
    return {
        "decay": curve(lambda: -5.5 + 6 * line() ** power + 2.5 * zigzag()),
        "rate": curve(lambda: -0.19 + 0.3 * zigzag() + 0.4 * (line() - 0.5)),
        "value": curve(lambda: 0.73 - 0.4 * (line() - 0.5)),
        "removal": curve(lambda: 0.71 - 0.1 * (line() - 0.5)),
    }
