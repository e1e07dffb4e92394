"""Arguments, checks and shapes of the two ends of a step of generation, over tokens that stay on the device."""

from typing import NamedTuple

import torch
from torch import Tensor

from gdnbench_kernels import backends, checks


class RowsOfTokens(NamedTuple):
    """What rows of a batch hold. All of it is contiguous, on one device, and written in place.

    Attributes:
        tokens: int32 ``[B, places]``: those that a row was fed, and the one that waits, at its length.
        lengths: int32 ``[B]``: tokens that were fed; less than ``places``, and less than ``places - 1`` in a row that
            is not done.
        limits: int32 ``[B]``: a row that holds so many tokens, the waiting one among them, is done.
        done: bool ``[B]``: such a row stays as it is.
        stops: bool ``[vocabulary]``: a row in which one of these tokens waits is done.
    """

    tokens: Tensor
    lengths: Tensor
    limits: Tensor
    done: Tensor
    stops: Tensor


def embed(table: Tensor, rows: RowsOfTokens, *, dtype: torch.dtype, impl: str = "torch") -> Tensor:
    """Return the vectors ``[B, D]`` of the tokens that wait, in ``dtype``, from a table ``[vocabulary, D]``.

    Raises:
        ValueError: a shape or type does not fit; the message names the argument.
        BackendUnavailable: the backend does not exist or cannot run here, or (`BackendRefusal`) does not serve this.
    """
    _check(rows)
    checks.shape("table", table, len(rows.stops), None)
    checks.contiguous(table=table)
    result: Tensor = backends.serving("next_token", "embed", impl, table).embed(table, rows, dtype)
    return result


def append(chosen: Tensor, rows: RowsOfTokens, *, impl: str = "torch") -> None:
    """Count what waits as fed and let ``chosen [B]`` (int64) wait, in rows that are not done; mark those that now are.

    Raises:
        As `embed`.
    """
    _check(rows)
    checks.shape("chosen", chosen, len(rows.lengths))
    if chosen.dtype != torch.int64:
        raise ValueError(f"chosen: {chosen.dtype}, expected torch.int64")
    backends.serving("next_token", "append", impl, chosen).append(chosen.contiguous(), rows)


def append_likeliest(logits: Tensor, rows: RowsOfTokens, *, impl: str = "torch") -> None:
    """Do as `append` with the first of the largest of ``logits [B, vocabulary]``.

    Raises:
        As `embed`.
    """
    _check(rows)
    checks.shape("logits", logits, len(rows.lengths), len(rows.stops))
    checks.contiguous(logits=logits)
    backends.serving("next_token", "append_likeliest", impl, logits).append_likeliest(logits, rows)


def _check(rows: RowsOfTokens) -> None:
    batch = rows.lengths.shape[0]
    checks.shape("tokens", rows.tokens, batch, None)
    checks.shape("stops", rows.stops, None)
    for name in ("lengths", "limits", "done"):
        checks.shape(name, getattr(rows, name), batch)
    for name, value in rows._asdict().items():
        wanted = torch.bool if name in ("done", "stops") else torch.int32
        if value.dtype != wanted:
            raise ValueError(f"{name}: {value.dtype}, expected {wanted}")
    checks.contiguous(**rows._asdict())
