"""Kimi delta attention (Kimi Team: Kimi Linear, arXiv 2510.26692, section 4): the delta rule, each channel forgetting.

A key channel decays at a rate of its own, where GDN's whole head has one. All else is as in GDN, but for the gates,
which come from low-rank maps, and the output's, which is a sigmoid.
"""

from dataclasses import dataclass

from gdnbench_kernels.kda import kda, kda_step
from torch import Tensor, nn
from torch.nn import functional as F

from gdnbench.models import (
    Init,
    Mixer,
    ModelConfig,
    Multiplier,
    Projection,
    RMSNorm,
    Role,
    Shared,
    ShortConvolution,
    State,
    convolve,
    declare,
    empty_tail,
    inverse_softplus,
    l2_normalize,
    log_spread,
    normal,
    project,
    spread,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of Kimi delta attention; heads and dimensions are those at the base width.

    Attributes:
        heads: number of heads.
        head_dim: dimension of a head's keys and of its values; None: base width / 8.
        rank: rank of the gates' maps; None: the head dimension. It is the same at every width.
        conv_size: width of the short convolutions.
        beta_range: what writing strengths reach: 1, or 2 for negative eigenvalues.
    """

    heads: int = 6
    head_dim: int | None = None
    rank: int | None = None
    conv_size: int = 4
    beta_range: float = 1.0


class LowRank(nn.Module):
    """``up(down x)``, a map of the width to ``fan_out`` through a small rank."""

    def __init__(self, width: int, rank: int, fan_out: int, *, init: Init):
        super().__init__()
        self.down = Projection(width, rank, init=init, row="lora_down")
        self.up = Projection(rank, fan_out, init=init, row="lora_up")

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., width]`` to ``[..., fan_out]``."""
        return self.up(self.down(x))


class KimiDeltaAttention(Mixer):
    """The delta rule with a decay by channel, between short convolutions and a gated norm of each head."""

    Options = Options

    A_log: Tensor
    dt_bias: Tensor

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self.uses(config, "kda", "short_convolution")
        options = self.options(config, "kimi_delta", Options)
        base_dim = options.head_dim or max(1, config.base_width // 8)
        self.width, self.beta_range = config.width, options.beta_range
        self.heads = config.head_count("the number of heads", options.heads)
        self.dim = config.head_dim("the head dim", base_dim)
        self.rank = options.rank or base_dim
        inner, init = self.heads * self.dim, normal(config.init_std)
        self.q_proj = Projection(self.width, inner, init=init)
        self.k_proj = Projection(self.width, inner, init=init)
        self.v_proj = Projection(self.width, inner, init=init)
        self.b_proj = Projection(self.width, self.heads, init=init, row="gate")
        self.o_proj = Projection(inner, self.width, init=init)
        self.decay = LowRank(self.width, self.rank, inner, init=init)
        self.gate = LowRank(self.width, self.rank, inner, init=init)
        self.q_conv = ShortConvolution(inner, options.conv_size)
        self.k_conv = ShortConvolution(inner, options.conv_size)
        self.v_conv = ShortConvolution(inner, options.conv_size)
        # Rates from 1 to 16 and steps from 0.001 to 0.1, as in Mamba-2 and in the authors' code.
        rates = Init(sample=lambda shape, rng: spread(shape[0], (1.0, 16.0), rng).log())
        steps = Init(sample=lambda shape, rng: inverse_softplus(log_spread(shape[0], (1e-3, 0.1), rng)))
        declare(self, "A_log", (self.heads,), Role(row="gate_scalar", fan_out=self.heads, init=rates))
        declare(self, "dt_bias", (inner,), Role(row="vector", fan_out=inner, init=steps))
        # The norm behind it takes any constant away; this one keeps its input well above the norm's epsilon.
        self.output_scale = Multiplier("delta_output", fan_in=self.dim, base=lambda dim: dim**0.5)
        self.o_norm = RMSNorm(self.dim, eps=config.norm_eps, row="head_norm")

    def forward(
        self, x: Tensor, state: State | None = None, shared: Shared | None = None
    ) -> tuple[Tensor, State | None]:
        """Map ``[B, T, D]``; with a state, continue it."""
        inputs, tail = self._inputs(x, None if state is None else state["tail"])
        o, memory = kda(
            **inputs,
            scale=self.output_scale.value,
            initial_state=None if state is None else state["memory"],
            output_final_state=state is not None,
            impl=self.impl["kda"],
        )
        return self._output(o, x), None if memory is None or tail is None else {"tail": tail, "memory": memory}

    def step(self, x: Tensor, state: State, shared: Shared | None = None) -> tuple[Tensor, State]:
        """Map one token ``[B, D]`` by the recurrence itself."""
        inputs, tail = self._inputs(x[:, None], state["tail"])
        assert tail is not None
        one = {name: value[:, 0] for name, value in inputs.items()}
        o, memory = kda_step(**one, state=state["memory"], scale=self.output_scale.value)
        return self._output(o[:, None], x[:, None])[:, 0], {"tail": tail, "memory": memory}

    def _inputs(self, x: Tensor, tail: Tensor | None) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return what the recurrence takes, and the convolutions' new tail."""
        (wide,) = project(x, (self.q_proj, self.k_proj, self.v_proj, self.b_proj))
        (q, k, v), rest, tail = convolve(self._convs(), wide, tail, impl=self.impl["short_convolution"])
        q, k, v, g = (t.unflatten(-1, (self.heads, self.dim)) for t in (q, k, v, self.decay(x) + self.dt_bias))
        log_decay = -self.A_log.exp()[:, None] * F.softplus(g)
        beta = self.beta_range * rest[..., : self.heads].sigmoid()
        return {"q": l2_normalize(q), "k": l2_normalize(k), "v": v, "g": log_decay, "beta": beta}, tail

    def _output(self, o: Tensor, x: Tensor) -> Tensor:
        """Normalize by head, gate by a sigmoid and project: ``[B, T, H, V]`` to ``[B, T, D]``."""
        return self.o_proj(self.o_norm(o).flatten(2) * self.gate(x).sigmoid())

    def init_state(self, batch_size: int) -> State:
        """Return a zero memory ``[B, H, K, V]`` and the convolutions' empty tail."""
        memory = self._empty(batch_size, self.heads, self.dim, self.dim)
        return {"tail": empty_tail(self._convs(), batch_size), "memory": memory}

    def state_bytes(self, context: int, element_size: int) -> int:
        """A K x V matrix by head and the convolutions' tails, whatever the context."""
        tails = sum((conv.size - 1) * conv.channels for conv in self._convs())
        return (self.heads * self.dim**2 + tails) * element_size

    def parameter_count(self) -> int:
        """The matrices, the convolutions, a rate by head, a bias by channel and the norm's gain."""
        convs = sum(conv.parameter_count() for conv in self._convs())
        return self._matrix_weights() + convs + self.heads + self.heads * self.dim + self.dim

    def flops_per_token(self, context: int) -> int:
        """A multiply-add a matrix weight; the recurrence recalls, writes and reads: ``3 * 2 K V`` a head."""
        convs = sum(conv.flops_per_token() for conv in self._convs())
        return 2 * self._matrix_weights() + 6 * self.heads * self.dim**2 + convs

    def _convs(self) -> list[ShortConvolution]:
        return [self.q_conv, self.k_conv, self.v_conv]

    def _matrix_weights(self) -> int:
        """q, k, v, o: D x HK each; strengths: D x H; two low-rank maps."""
        inner = self.heads * self.dim
        return 4 * self.width * inner + self.width * self.heads + 2 * self.rank * (self.width + inner)
