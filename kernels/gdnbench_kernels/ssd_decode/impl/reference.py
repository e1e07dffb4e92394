"""The definition: the convolution's next output, the step size, and the recurrence's step, in float32 or wider."""

from torch import Tensor
from torch.nn import functional as F

from gdnbench_kernels.precision import cast, in_full_precision
from gdnbench_kernels.short_convolution import ring as rings
from gdnbench_kernels.ssd.api import ssd_step


def ssd_decode(
    x: Tensor,
    dt: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    ring: Tensor,
    memory: Tensor,
    lengths: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    D: Tensor,
    *,
    settled: bool,
) -> Tensor:
    """Advance by one token; see `ssd_decode.api.ssd_decode`."""
    heads, key_dim, value_dim = memory.shape[1:]
    wide = rings.convolve_next(x, weight, bias, ring, lengths)
    states = (x.shape[1] - heads * value_dim) // 2
    u, b, c = wide.split([heads * value_dim, states, states], 1)
    u, b, c = u.unflatten(1, (heads, value_dim)), b.unflatten(1, (-1, key_dim)), c.unflatten(1, (-1, key_dim))
    A_log, dt_bias, D = (cast(each, wide.dtype) for each in (A_log, dt_bias, D))
    dt = F.softplus(cast(dt, wide.dtype) + dt_bias)
    output, new = in_full_precision(ssd_step)(c, b, u, -A_log.exp() * dt, dt, memory)
    memory.copy_(new)
    return (output + D[:, None] * u).flatten(1).to(x.dtype)
