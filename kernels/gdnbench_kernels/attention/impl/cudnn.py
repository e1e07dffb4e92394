"""cuDNN's fused attention, and no other kernel."""

import torch
from torch import Tensor

from gdnbench_kernels import requirements
from gdnbench_kernels.attention import fused


def why_unavailable() -> str | None:
    """Return what is missing: a GPU with bfloat16, or cuDNN."""
    missing = requirements.missing("torch", oldest="2.11", capability=(8, 0))
    return missing or (None if torch.backends.cudnn.is_available() else "this build of torch has no cuDNN")


def refuses(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Return what it does not serve: large head dims, other types than half precision."""
    return fused.refusal(torch.backends.cuda.can_use_cudnn_attention, q, k, v)


def what_ran() -> dict[str, str]:
    """Return the versions of PyTorch and of cuDNN."""
    return {"torch": torch.__version__, "cudnn": str(torch.backends.cudnn.version())}


def attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """Run it, with the sums that a backward pass needs; see `attention.api.attention`."""
    q, k, v = fused.arguments(q, k, v)
    causal = q.shape[2] == k.shape[2]
    output: Tensor = torch.ops.aten._scaled_dot_product_cudnn_attention(
        q, k, v, None, True, 0.0, causal, False, scale=scale
    )[0]
    return output.transpose(1, 2)
