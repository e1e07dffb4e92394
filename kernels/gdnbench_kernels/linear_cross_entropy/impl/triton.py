"""PyTorch's matrix products, a chunk of tokens at a time, around our own kernel of the rows."""

from torch import Tensor

from gdnbench_kernels.gpu import hardware
from gdnbench_kernels.linear_cross_entropy import chunked, gpu

why_unavailable = hardware.why_unavailable

_run = chunked.operator("gdnbench::linear_cross_entropy", gpu.rows)


def refuses(x: Tensor, weight: Tensor, targets: Tensor, *, chunk_size: int | None) -> str | None:
    """Return what the kernel does not serve: float64, another device than a GPU."""
    return hardware.beyond_types(x=x, weight=weight)


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, *, scale: float, chunk_size: int | None) -> Tensor:
    """Return the sum of losses; see `linear_cross_entropy.api.linear_cross_entropy`."""
    return chunked.total(_run, x, weight, targets, scale, chunk_size)


def linear_cross_entropy_scores(
    x: Tensor, weight: Tensor, targets: Tensor, *, scale: float, chunk_size: int | None
) -> Tensor:
    """Return losses by token; see `linear_cross_entropy.api.linear_cross_entropy_scores`."""
    return _run(x, weight, targets, scale, chunk_size, False, False)[1]
