"""The definition: the convolution's next output, the gates, and the recurrence's step, in float32 or wider."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gdnbench_kernels.gated_delta import arguments
from gdnbench_kernels.gated_delta.impl import reference
from gdnbench_kernels.gated_delta_decode.sizes import key_heads
from gdnbench_kernels.short_convolution import ring as rings


def gated_delta_decode(
    x: Tensor,
    g: Tensor,
    beta: Tensor,
    weight: Tensor,
    ring: Tensor,
    memory: Tensor,
    lengths: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    *,
    scale: float,
    gate_scale: float,
    beta_range: float,
    settled: bool,
) -> Tensor:
    """Advance by one token; see `gated_delta_decode.api.gated_delta_decode`."""
    _, value_heads, key_dim, value_dim = memory.shape
    heads, channels = key_heads(x, memory), len(weight)
    convolved = rings.convolve_next(x[:, :channels], weight, None, ring, lengths)
    wide = torch.cat([convolved, F.silu(x[:, channels:].to(convolved))], 1)
    q, k, v = wide.split([heads * key_dim, heads * key_dim, value_heads * value_dim], 1)
    q, k, g, beta = arguments.activate(
        q.unflatten(1, (heads, key_dim)),
        k.unflatten(1, (heads, key_dim)),
        g,
        beta,
        normalize_qk=True,
        A_log=A_log,
        dt_bias=dt_bias,
        gate_scale=gate_scale,
        beta_range=beta_range,
    )
    v = v.unflatten(1, (value_heads, value_dim))
    output, new = reference.gated_delta_rule_step(q, k, v, g, beta, memory, scale=scale)
    memory.copy_(new)
    return output.flatten(1).to(x.dtype)
