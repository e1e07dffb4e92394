"""What the rows of a batch hold, on the device: their tokens, lengths, limits, and whether they are done."""

import torch
from gdnbench_kernels.next_token import RowsOfTokens
from torch import Tensor


class Rows:
    """The tokens of every row, of which the first ``lengths`` were fed and the next one waits to be.

    A done row stays as it is: it feeds the same token again, at the same place, until the others are done.

    Attributes:
        tokens: int32 ``[B, capacity + 1]``.
        lengths: int32 ``[B]``: tokens that were fed.
        limits: int32 ``[B]``: a row that holds so many tokens, the waiting one among them, is done.
        done: bool ``[B]``.
        stops: bool ``[vocabulary]``: tokens after which a row is done.
        keys: int64 ``[B]``: of the rows' random numbers.
        logits: float32 or wider ``[B, vocabulary]``: what followed the last token that was fed.
    """

    def __init__(self, batch_size: int, capacity: int, vocab_size: int, *, device: torch.device, wide: torch.dtype):
        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.tokens = zeros(batch_size, capacity + 1, dtype=torch.int32)
        self.lengths = zeros(batch_size, dtype=torch.int32)
        self.limits = zeros(batch_size, dtype=torch.int32)
        self.done = zeros(batch_size, dtype=torch.bool)
        self.stops = zeros(vocab_size, dtype=torch.bool)
        self.keys = zeros(batch_size, dtype=torch.int64)
        self.logits = zeros(batch_size, vocab_size, dtype=wide)

    @property
    def held(self) -> RowsOfTokens:
        """What a step reads and writes, as the operation `next_token` takes it."""
        return RowsOfTokens(self.tokens, self.lengths, self.limits, self.done, self.stops)

    def waiting(self) -> Tensor:
        """Return the tokens ``[B]`` that are fed next."""
        return self.tokens.gather(1, self._place())[:, 0]

    def put(self, tokens: Tensor) -> None:
        """Let ``tokens [B]`` wait."""
        self.tokens.scatter_(1, self._place(), tokens[:, None].int())

    def end(self, rows: Tensor, tokens: Tensor) -> None:
        """Mark those of ``rows [B]`` (bool) as done that are with the ``tokens [B]`` that wait in them."""
        self.done |= rows & (self.stops[tokens] | (self.lengths + 1 >= self.limits))

    def bytes(self) -> int:
        """Return the bytes of all of it."""
        return sum(t.numel() * t.element_size() for t in vars(self).values())

    def _place(self) -> Tensor:
        return self.lengths.long()[:, None]
