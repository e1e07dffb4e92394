"""Our own kernels: one that embeds, one that appends, and before it one that searches the largest logits."""

import torch
from torch import Tensor

from gdnbench_kernels.gpu import hardware
from gdnbench_kernels.launching import on_its_device
from gdnbench_kernels.next_token import gpu
from gdnbench_kernels.next_token.api import RowsOfTokens

why_unavailable = hardware.why_unavailable


def refuses(x: Tensor) -> str | None:
    """Return what the kernels do not serve: float64 and another device than a GPU."""
    return hardware.beyond_types(**({"x": x} if x.is_floating_point() else {}))


@on_its_device
def embed(table: Tensor, rows: RowsOfTokens, dtype: torch.dtype) -> Tensor:
    """Look the waiting tokens up."""
    return gpu.embed(table, rows, dtype)


@on_its_device
def append(chosen: Tensor, rows: RowsOfTokens) -> None:
    """Let the chosen tokens wait."""
    gpu.append(None, chosen[:, None], rows)


@on_its_device
def append_likeliest(logits: Tensor, rows: RowsOfTokens) -> None:
    """Let the likeliest tokens wait."""
    gpu.append(*gpu.best(logits), rows)
