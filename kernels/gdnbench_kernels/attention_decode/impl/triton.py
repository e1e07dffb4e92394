"""Our own kernel."""

from torch import Tensor

from gdnbench_kernels.attention_decode.gpu import attention_decode
from gdnbench_kernels.gpu import hardware

__all__ = ["attention_decode", "refuses", "why_unavailable"]

HEAD_DIMS, HEAD_DIM_MULTIPLE = (16, 512), 8

why_unavailable = hardware.why_unavailable


def refuses(inputs: Tensor, keys: Tensor, values: Tensor) -> str | None:
    """Return what the kernel does not serve: float64, another device than a GPU, head dims out of range."""
    low, high = HEAD_DIMS
    dim = keys.shape[3]
    if not low <= dim <= high or dim % HEAD_DIM_MULTIPLE:
        return f"keys: D is {dim}, wants a multiple of {HEAD_DIM_MULTIPLE} from {low} to {high}"
    if keys.dtype != values.dtype:
        return f"values: {values.dtype}, wants {keys.dtype} as keys"
    return hardware.beyond_types(inputs=inputs, keys=keys, values=values)
