"""What is to be continued, checked once before anything is computed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gdnbench.errors import GdnbenchError
from gdnbench.inference.memory import Demand
from gdnbench.words import plural


def prompts(given: Sequence[Sequence[int]] | Tensor, vocab_size: int, demand: Demand) -> list[Tensor]:
    """Return prompts as int64 tensors ``[T]``; raise for what cannot be continued."""
    if not len(given):
        raise GdnbenchError("no prompt: expected at least one")
    if len(given) > demand.batch_size:
        raise GdnbenchError(f"{plural(len(given), 'prompt')}: the batch has {plural(demand.batch_size, 'row')}")
    found = [torch.as_tensor(prompt, dtype=torch.int64) for prompt in given]
    for number, prompt in enumerate(found):
        try:
            tokens(prompt, vocab_size, demand.capacity - 1)
        except GdnbenchError as error:
            raise GdnbenchError(f"prompt {number}: {error}") from None
    return found


def tokens(given: Tensor, vocab_size: int, longest: int) -> None:
    """Raise unless tokens ``[..., T]`` are of the vocabulary and at least one, at most ``longest``, in a row."""
    count = given.shape[-1]
    if count < 1:
        raise GdnbenchError("it is empty; expected at least one token")
    if count > longest:
        raise GdnbenchError(
            f"it has {count} tokens, of the {longest} that leave room for one more; ask for a larger capacity"
        )
    _of_vocabulary(int(given.min()), int(given.max()), vocab_size)


def stops(given: Sequence[int], vocab_size: int) -> None:
    """Raise unless stop tokens are of the vocabulary."""
    if given:
        _of_vocabulary(min(given), max(given), vocab_size)


def _of_vocabulary(low: int, high: int, vocab_size: int) -> None:
    if low < 0 or high >= vocab_size:
        outside = low if low < 0 else high
        raise GdnbenchError(f"token {outside} is none of the vocabulary: ids go from 0 to {vocab_size - 1}")
