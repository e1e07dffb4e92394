"""NewMixer: linear attention whose memory fades, one rate a head and token. Replace it by a mixer of your own.

Its memory is S_t = e^{g_t} S_{t-1} + k_t v_t^T for each head, with g_t = -softplus(w . x_t + b); it reads S_t^T q_t.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from gdnbench.models import (
    Mixer,
    ModelConfig,
    Projection,
    RMSNorm,
    Role,
    Shared,
    State,
    constant,
    declare,
    l2_normalize,
    normal,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What ``model.options.new_mixer`` of a preset may set.

    Attributes:
        heads: number of heads at the base width.
        head_dim: dimension of a head's keys and values at the base width; None: base width / heads.
    """

    heads: int = 4
    head_dim: int | None = None


class NewMixer(Mixer):
    """Linear attention with a decay by head and token."""

    Options = Options

    # A role of its own: a row for the parametrization tables. Absent tables and cells are 1, and every table is
    # inherited by those that extend it. `gdnbench rules` prints the rows that are there already.
    role_rows: ClassVar = {
        "fading": {"decays": False, "about": "one bias a head", "tables": {"mup_orig": {"sgd": "m^1/2 m_out^1/2"}}}
    }

    fading: Tensor

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        options = self.options(config, "new_mixer", Options)
        self.width = config.width
        # In one geometry the dimensions grow with the width, in the other the number of heads does.
        self.heads = config.head_count("the number of heads", options.heads)
        self.dim = config.head_dim("the head dim", options.head_dim or max(1, config.base_width // options.heads))
        inner, init = self.heads * self.dim, normal(config.init_std)
        # Every parameter has a role: a Projection is `hidden`, unless told otherwise.
        self.q_proj = Projection(self.width, inner, init=init)
        self.k_proj = Projection(self.width, inner, init=init)
        self.v_proj = Projection(self.width, inner, init=init)
        self.f_proj = Projection(self.width, self.heads, init=init, row="gate")
        self.o_proj = Projection(inner, self.width, init=init)
        declare(self, "fading", (self.heads,), Role(row="fading", fan_out=self.heads, init=constant(-3.0)))
        self.norm = RMSNorm(self.dim, eps=config.norm_eps, row="head_norm")

    def forward(
        self, x: Tensor, state: State | None = None, shared: Shared | None = None
    ) -> tuple[Tensor, State | None]:
        """Map ``x [B, T, D]`` at once; with a state, continue from it and return the new one."""
        q, k, v, g = self._inputs(x)
        total = g.cumsum(1).movedim(1, -1)  # [B, H, T]
        # e^{G_t - G_s} for s up to t. The difference is masked first: above the diagonal its exponential may overflow.
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        fading = (total[..., :, None] - total[..., None, :]).masked_fill(future, -torch.inf).exp()
        scores = torch.einsum("bthk,bshk->bhts", q, k) * fading
        o = torch.einsum("bhts,bshv->bthv", scores, v)
        if state is None:
            return self._output(o), None
        from_start, to_end = total.exp().movedim(-1, 1)[..., None], (total[..., -1:] - total).exp().movedim(-1, 1)
        o = o + torch.einsum("bthk,bhkv->bthv", from_start * q, state["memory"])
        written = torch.einsum("bshk,bshv->bhkv", to_end[..., None] * k, v)
        return self._output(o), {"memory": total[..., -1, None, None].exp() * state["memory"] + written}

    def step(self, x: Tensor, state: State, shared: Shared | None = None) -> tuple[Tensor, State]:
        """Map one token ``x [B, D]`` by the recurrence. Without this method, a step is a sequence of length 1."""
        q, k, v, g = (t[:, 0] for t in self._inputs(x[:, None]))
        memory = g.exp()[..., None, None] * state["memory"] + k[..., :, None] * v[..., None, :]
        o = torch.einsum("bhk,bhkv->bhv", q, memory)
        return self._output(o[:, None])[:, 0], {"memory": memory}

    def _inputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return q, k, v ``[B, T, H, K]`` and the log decay ``[B, T, H]``, in float32 or wider."""
        q, k, v = (p(x).unflatten(-1, (self.heads, self.dim)) for p in (self.q_proj, self.k_proj, self.v_proj))
        g = -F.softplus(self.f_proj(x) + self.fading)
        wide = torch.promote_types(g.dtype, torch.float32)
        return l2_normalize(q.to(wide)), l2_normalize(k.to(wide)), v.to(wide), g.to(wide)

    def _output(self, o: Tensor) -> Tensor:
        """Normalize each head of ``o [B, T, H, V]`` and project to ``[B, T, D]``."""
        return self.o_proj(self.norm(o).flatten(2))

    def init_state(self, batch_size: int) -> State:
        """Return the state before the first token, on the device and in the type of the parameters."""
        return {"memory": self._empty(batch_size, self.heads, self.dim, self.dim)}

    def state_bytes(self, context: int, element_size: int) -> int:
        """Return the bytes of one sequence's state: a K x V matrix a head, whatever the context."""
        return self.heads * self.dim**2 * element_size

    def parameter_count(self) -> int:
        """Return the number of parameters: the matrices, a bias a head, the norm's gain."""
        return self._matrix_weights() + self.heads + self.dim

    def flops_per_token(self, context: int) -> int:
        """Return the forward FLOPs of a token: 2 a weight of a matrix; 2 K V each to write the memory and to read it.

        The recurrence is counted by its definition: what a parallel form computes beyond it is not counted.
        """
        return 2 * self._matrix_weights() + 4 * self.heads * self.dim**2

    def _matrix_weights(self) -> int:
        inner = self.heads * self.dim
        return 4 * self.width * inner + self.width * self.heads
