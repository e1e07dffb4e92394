"""Tiny models that keep the model contract, with scores that a test can compute by itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

VOCAB = 256


class Uniform(nn.Module):
    """Every token has probability 1 / vocab."""

    def __init__(self, vocab: int = VOCAB) -> None:
        super().__init__()
        self.vocab = vocab

    def forward(self, tokens, state=None):
        return torch.zeros(*tokens.shape, self.vocab), state

    def init_state(self, batch_size):
        return torch.zeros(batch_size)


class Recurrent(nn.Module):
    """A leaky sum of random embeddings: each prediction depends on the whole past."""

    def __init__(self, vocab: int = VOCAB, width: int = 8) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.inner = nn.Parameter(torch.randn(vocab, width, generator=generator, dtype=torch.float64))
        self.outer = nn.Parameter(torch.randn(width, vocab, generator=generator, dtype=torch.float64))
        self.longest = 0

    def init_state(self, batch_size):
        return torch.zeros(batch_size, self.inner.shape[1], dtype=torch.float64)

    def forward(self, tokens, state=None):
        self.longest = max(self.longest, tokens.shape[1])
        hidden = self.init_state(len(tokens)) if state is None else state
        rows = []
        for column in tokens.T:
            hidden = 0.9 * hidden + self.inner[column]
            rows.append(hidden)
        return torch.stack(rows, dim=1) @ self.outer, None if state is None else hidden

    def exact_nll(self, tokens: np.ndarray) -> np.ndarray:
        """Score tokens[1:] in one pass."""
        with torch.no_grad():
            logits, _ = self(torch.from_numpy(np.asarray(tokens, dtype=np.int64))[None, :-1])
            logp = logits[0].float().log_softmax(-1)
        return -logp[torch.arange(len(tokens) - 1), torch.from_numpy(tokens[1:].astype(np.int64))].double().numpy()


@pytest.fixture
def recurrent() -> Recurrent:
    return Recurrent()


@pytest.fixture
def uniform() -> Uniform:
    return Uniform()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDNBENCH_CACHE", str(tmp_path / "cache"))
