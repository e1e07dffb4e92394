"""Our own kernel."""

from torch import Tensor

from gdnbench_kernels.gpu import hardware
from gdnbench_kernels.wkv7_decode.gpu import wkv7_decode

__all__ = ["refuses", "why_unavailable", "wkv7_decode"]

HEAD_DIMS, HEAD_DIM_MULTIPLE = (16, 512), 8

why_unavailable = hardware.why_unavailable


def refuses(inputs: Tensor, memory: Tensor) -> str | None:
    """Return what the kernel does not serve: float64, another device than a GPU, head dims out of range."""
    low, high = HEAD_DIMS
    dim = memory.shape[3]
    if not low <= dim <= high or dim % HEAD_DIM_MULTIPLE:
        return f"memory: K is {dim}, wants a multiple of {HEAD_DIM_MULTIPLE} from {low} to {high}"
    return hardware.beyond_types(inputs=inputs, memory=memory)
