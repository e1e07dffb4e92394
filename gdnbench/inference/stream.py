"""From the device to a caller: what every row got in the last few steps, copied while the next ones run."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gdnbench.inference.rows import Rows


@dataclass(frozen=True)
class Piece:
    """Tokens that a prompt was continued by.

    Attributes:
        prompt: number of the prompt.
        tokens: the next tokens, at least one.
        finished: why none will follow: ``stop`` (the last is a stop token), ``length`` (as many as were asked for) or
            ``capacity`` (its row is full); None: more will.
    """

    prompt: int
    tokens: tuple[int, ...]
    finished: str | None = None


class Window:
    """Some steps of all rows, as numbers that are on their way to the host."""

    def __init__(self, rows: Rows, before: Tensor, steps: int):
        """Begin to copy what was appended since the lengths were ``before [B]``, at most ``steps`` tokens."""
        places = (before[:, None] + torch.arange(1, steps + 1, device=before.device)).clamp(
            max=rows.tokens.shape[1] - 1
        )
        found = [rows.tokens.gather(1, places.long()), rows.lengths[:, None], rows.done[:, None].int()]
        packed = torch.cat(found, 1)
        self.event = torch.cuda.Event() if packed.is_cuda else None
        # A fresh pinned tensor comes from PyTorch's cache of them.
        self.numbers = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=packed.is_cuda)
        self.numbers.copy_(packed, non_blocking=True)
        if self.event is not None:
            self.event.record()

    def read(self) -> Iterator[tuple[list[int], int, bool]]:
        """Wait for the copy; yield the tokens of each row (of which the first may be its), its length, and if done."""
        if self.event is not None:
            self.event.synchronize()
        for *tokens, length, done in self.numbers.tolist():
            yield tokens, length, bool(done)
