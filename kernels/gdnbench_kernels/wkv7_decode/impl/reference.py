"""The definition, written out, in float32 or wider (any float type, any device)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gdnbench_kernels.precision import cast
from gdnbench_kernels.wkv7.api import wkv7_step
from gdnbench_kernels.wkv7_decode.api import DECAY_BOUND, REMOVAL_EPS, Maps


def wkv7_decode(
    inputs: Tensor,
    first: Tensor | None,
    memory: Tensor,
    maps: Maps,
    *,
    eps: float,
    arrived: Tensor | None,
    settled: bool,
) -> Tensor:
    """Compute it line by line; see `wkv7_decode.api.wkv7_decode`."""
    wide = torch.promote_types(torch.promote_types(inputs.dtype, memory.dtype), torch.float32)
    heads, dim = memory.shape[1:3]
    width = heads * dim
    m = {name: cast(x, wide) for name, x in vars(maps).items() if x is not None}
    sizes = [width, width, width, *maps.ranks()]
    r, k, v, h_value, h_decay, h_rate, h_gate = cast(inputs[:, : sum(sizes)], wide).split(sizes, 1)
    if first is not None:
        v = v + (cast(first, wide) - v) * F.linear(h_value, m["value_up"], m["value_bias"]).sigmoid()
    w = -DECAY_BOUND * F.linear(h_decay.tanh(), m["decay_up"], m["decay_bias"]).sigmoid()
    rate = F.linear(h_rate, m["rate_up"], m["rate_bias"]).sigmoid()
    gate = F.linear(h_gate.sigmoid(), m["gate_up"])
    removed = (k * m["removal"]).unflatten(1, (heads, dim))
    removed = removed * torch.rsqrt(removed.square().sum(-1, keepdim=True) + REMOVAL_EPS)
    k = k * (1 + (rate - 1) * m["replacement"])
    r, w, k, v, rate, bonus = (x.unflatten(-1, (heads, dim)) for x in (r, w, k, v, rate, m["bonus"]))
    o, state = wkv7_step(r, w, k, v, -removed, removed * rate, cast(memory, wide))
    memory.copy_(state)
    normed = F.group_norm(o.flatten(1), heads, m["norm_weight"], m["norm_bias"], eps)
    own = (r * k * bonus).sum(-1, keepdim=True) * v
    return cast((normed + own.flatten(1)) * gate, inputs.dtype)
