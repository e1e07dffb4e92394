"""The definition, row by row on the host."""

import torch
from torch import Tensor

from gdnbench_kernels.next_token.api import RowsOfTokens


def embed(table: Tensor, rows: RowsOfTokens, dtype: torch.dtype) -> Tensor:
    """Look the waiting tokens up."""
    waiting = [int(row[length]) for row, length in zip(rows.tokens, rows.lengths.tolist(), strict=True)]
    return torch.stack([table[token] for token in waiting]).to(dtype)


def append(chosen: Tensor, rows: RowsOfTokens) -> None:
    """Let the chosen tokens wait."""
    for row, token in enumerate(chosen.tolist()):
        if not rows.done[row]:
            length = int(rows.lengths[row]) + 1
            rows.lengths[row], rows.tokens[row, length] = length, token
            rows.done[row] = bool(rows.stops[token]) or length + 1 >= int(rows.limits[row])


def append_likeliest(logits: Tensor, rows: RowsOfTokens) -> None:
    """Let the likeliest tokens wait."""
    append((logits == logits.amax(-1, keepdim=True)).int().argmax(-1), rows)
