"""The tokens that throughput is measured on: random, the same for all, easy enough to see whether training works."""

import numpy as np

from gdnbench.data.batches import BatchSampler


def tokens(vocab_size: int, batch: int, seq_len: int, seed: int) -> np.ndarray:
    """Return uint32 tokens for one batch: token k is as frequent as 1 / (k + 1), as words of a language are.

    Frequencies that differ are what every model learns within a few steps, on text that it has not seen, too; and the
    gradient of the embedding falls on rows as unevenly as with real text, which its speed depends on.
    """
    shares = np.cumsum(1 / np.arange(1, vocab_size + 1))
    drawn = np.random.Generator(np.random.PCG64(seed)).random((batch + 1) * seq_len)
    return np.searchsorted(shares / shares[-1], drawn).astype(np.uint32)


def sampler(vocab_size: int, batch: int, seq_len: int, seed: int) -> BatchSampler:
    """Return the batches: each holds all of `tokens`, cut elsewhere."""
    return BatchSampler(tokens(vocab_size, batch, seq_len, seed), batch_size=batch, seq_len=seq_len, seed=seed)
