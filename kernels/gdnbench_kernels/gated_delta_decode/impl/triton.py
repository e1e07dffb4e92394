"""Our own kernel, as an operator of PyTorch: the memory read once and written once, all else in between."""

from torch import Tensor

from gdnbench_kernels.gated_delta_decode.gpu import gated_delta_decode as decode
from gdnbench_kernels.gpu import hardware, tiles

why_unavailable = hardware.why_unavailable


def refuses(x: Tensor, memory: Tensor) -> str | None:
    """Return what the kernel does not serve: keys too wide, float64, another device than a GPU."""
    return hardware.beyond_types(x=x, memory=memory) or tiles.beyond(memory)


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
    """Run the kernel; see `gated_delta_decode.api.gated_delta_decode`."""
    gates = A_log.float(), dt_bias.float()
    return decode(x, g, beta, weight, ring, memory, lengths, *gates, scale, gate_scale, beta_range, settled)
