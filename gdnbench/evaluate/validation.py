"""Validation loss on a fixed, evenly spaced set of windows, per token, per byte and per whitespace word."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gdnbench.data.tokenizers import Tokenizer
from gdnbench.errors import GdnbenchError
from gdnbench.evaluate.scoring import Progress, evaluating, model_device, position_nll


@dataclass(frozen=True, kw_only=True)
class ValidationLoss:
    """Loss over ``tokens`` targets; separators are predicted and counted as tokens, but have no bytes and no words.

    ``loss`` is in nats per token, ``total_nll`` in nats. ``whitespace_word_ppl`` is exp(total_nll / words) with
    ``words`` the whitespace-separated words that begin in the targets: not one of WikiText's word perplexities.
    """

    loss: float
    bits_per_byte: float
    whitespace_word_ppl: float
    total_nll: float
    tokens: int
    bytes: int
    words: int
    sequences: int
    seq_len: int


def validation_loss(
    model: Any,
    tokens: np.ndarray,
    *,
    tokenizer: Tokenizer,
    seq_len: int,
    batch_size: int,
    sequences: int,
    progress: Progress | None = None,
) -> ValidationLoss:
    """Score ``sequences`` disjoint windows of ``seq_len`` targets, spread evenly over the split ``tokens`` [n].

    Each window is read without any context before it. Raises `GdnbenchError` if the split holds fewer windows.
    """
    starts = window_starts(len(tokens), seq_len=seq_len, sequences=sequences)
    device = model_device(model)
    total_nll, words, size = 0.0, 0, 0
    with evaluating(model):
        for begin in range(0, sequences, batch_size):
            rows = np.stack([tokens[s : s + seq_len + 1] for s in starts[begin : begin + batch_size]]).astype(np.int64)
            batch = torch.from_numpy(rows).to(device)
            every = torch.ones_like(batch[:, 1:], dtype=torch.bool)
            total_nll += float(position_nll(model, batch[:, :-1], batch[:, 1:], every).sum())
            words += sum(count_words(tokenizer, row) for row in rows)
            size += int(tokenizer.byte_lengths[rows[:, 1:]].sum())
            if progress is not None:
                progress((begin + len(rows)) * seq_len, sequences * seq_len)
    count = sequences * seq_len
    return ValidationLoss(
        loss=total_nll / count,
        bits_per_byte=total_nll / math.log(2) / size if size else math.nan,
        whitespace_word_ppl=perplexity(total_nll, words),
        total_nll=total_nll,
        tokens=count,
        bytes=size,
        words=words,
        sequences=sequences,
        seq_len=seq_len,
    )


def window_starts(length: int, *, seq_len: int, sequences: int) -> list[int]:
    """Return the first token of each of ``sequences`` evenly spaced windows in a split of ``length`` tokens."""
    if seq_len < 1 or sequences < 1 or sequences * seq_len > length - 1:
        most = max(0, length - 1) // max(1, seq_len)
        raise GdnbenchError(
            f"validation: {sequences} sequences of {seq_len} tokens asked for, but the split has {length} tokens, "
            f"enough for {most}; use fewer or shorter sequences"
        )
    last = length - 1 - seq_len
    return [index * last // max(1, sequences - 1) for index in range(sequences)]


def count_words(tokenizer: Tokenizer, row: np.ndarray) -> int:
    """Count the whitespace-separated words that begin in ``row[1:]``; ``row[0]`` tells if the first one began before.

    A separator ends a word, as whitespace does.
    """
    parts = np.split(row, np.flatnonzero(row == tokenizer.separator))
    texts = [tokenizer.decode(part[part != tokenizer.separator]) for part in parts]
    words = sum(len(text.split()) for text in texts)
    before = "" if row[0] == tokenizer.separator else tokenizer.decode(row[:1])
    return words - len(before.split())


def perplexity(total_nll: float, count: int) -> float:
    """Return exp(total_nll / count): infinite where that overflows, NaN without anything counted."""
    if not count:
        return math.nan
    try:
        return math.exp(total_nll / count)
    except OverflowError:
        return math.inf
