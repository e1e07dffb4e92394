"""FlashAttention-2 as PyTorch ships it, and no other kernel."""

import torch
from torch import Tensor

from gdnbench_kernels import requirements
from gdnbench_kernels.attention import fused


def why_unavailable() -> str | None:
    """Return what is missing: a GPU with bfloat16."""
    return requirements.missing("torch", oldest="2.11", capability=(8, 0))


def refuses(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Return what it does not serve: K beyond 256 or other than V, other types than half precision."""
    return fused.refusal(torch.backends.cuda.can_use_flash_attention, q, k, v)


def what_ran() -> dict[str, str]:
    """Return the version of PyTorch, which brings the kernel."""
    return {"torch": torch.__version__}


def attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """Run it; see `attention.api.attention`."""
    q, k, v = fused.arguments(q, k, v)
    causal = q.shape[2] == k.shape[2]
    output: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, False, scale=scale)[0]
    return output.transpose(1, 2)
