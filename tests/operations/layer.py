"""A layer around the gated delta rule, as models have it: what `torch.compile` gets in the tests."""

import torch
from gdnbench_kernels.gated_delta import gated_delta_rule
from torch import Tensor, nn


class Layer(nn.Module):
    """Projections before and after the rule, so that its arguments are slices and its results are used.

    Args:
        heads, group, key_dim, value_dim: sizes; the width is 32.
        raw: whether the gates are left to the kernels too, and not the norms alone.
    """

    def __init__(self, *, heads: int, group: int, key_dim: int, value_dim: int, raw: bool):
        super().__init__()
        value_heads = heads * group
        self.heads, self.raw = heads, raw
        self.sizes = [heads * key_dim, heads * key_dim, value_heads * value_dim, value_heads, value_heads]
        self.project = nn.Linear(32, sum(self.sizes))
        self.out = nn.Linear(value_heads * value_dim, 32)
        self.A_log = nn.Parameter(torch.zeros(value_heads)) if raw else None
        self.dt_bias = nn.Parameter(torch.full((value_heads,), -3.0)) if raw else None

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v, g, beta = self.project(x).split(self.sizes, -1)
        q, k = (each.unflatten(-1, (self.heads, -1)) for each in (q, k))
        v = v.unflatten(-1, (g.shape[-1], -1))
        settings = {"normalize_qk": True, "output_final_state": True, "initial_state": state, "impl": "triton"}
        if self.raw:
            settings |= {"A_log": self.A_log, "dt_bias": self.dt_bias, "beta_range": 1.0}
        else:
            g, beta = -g.abs(), beta.sigmoid()
        output, state = gated_delta_rule(q, k, v, g, beta, **settings)
        return self.out(output.flatten(2)), state


def forward_and_backward(layer: nn.Module, x: Tensor, state: Tensor) -> list[Tensor]:
    """Return both results of a layer, and the gradients of its inputs and parameters."""
    output, final = layer(x, state)
    wanted = [x, state, *layer.parameters()]
    return [output, final, *torch.autograd.grad(output.square().sum() + final.sum(), wanted)]
