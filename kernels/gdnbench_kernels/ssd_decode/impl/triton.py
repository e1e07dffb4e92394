"""Our own kernel, as an operator of PyTorch: the memory read once and written once, all else in between."""

from torch import Tensor

from gdnbench_kernels.gpu import hardware, tiles
from gdnbench_kernels.ssd_decode.gpu import ssd_decode as decode

why_unavailable = hardware.why_unavailable


def refuses(x: Tensor, memory: Tensor) -> str | None:
    """Return what the kernel does not serve: states too wide, float64, another device than a GPU."""
    return hardware.beyond_types(x=x, memory=memory) or tiles.beyond(memory)


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
    """Run the kernel; see `ssd_decode.api.ssd_decode`."""
    return decode(x, dt, weight, bias, ring, memory, lengths, A_log.float(), dt_bias.float(), D.float(), settled)
