"""PyTorch's own gathers and scatters, without waiting for the device."""

import torch
from torch import Tensor

from gdnbench_kernels.next_token.api import RowsOfTokens


def embed(table: Tensor, rows: RowsOfTokens, dtype: torch.dtype) -> Tensor:
    """Look the waiting tokens up."""
    return torch.nn.functional.embedding(_waiting(rows), table).to(dtype)


def append(chosen: Tensor, rows: RowsOfTokens) -> None:
    """Let the chosen tokens wait."""
    active = ~rows.done
    rows.lengths.add_(active)
    tokens = torch.where(active, chosen.int(), _waiting(rows))
    rows.tokens.scatter_(1, rows.lengths.long()[:, None], tokens[:, None])
    rows.done.logical_or_(active & (rows.stops[chosen] | (rows.lengths + 1 >= rows.limits)))


def append_likeliest(logits: Tensor, rows: RowsOfTokens) -> None:
    """Let the likeliest tokens wait."""
    append(logits.argmax(-1), rows)


def _waiting(rows: RowsOfTokens) -> Tensor:
    return rows.tokens.gather(1, rows.lengths.long()[:, None])[:, 0]
