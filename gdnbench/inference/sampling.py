"""Choosing a token from logits on the device: the likeliest, or one drawn under temperature, top-k and top-p.

The random number of a token is a hash of its seed, its stream and its place in the sequence: so a row draws the same
whatever stands in the batch's other rows, on a CPU and on a GPU, in a graph, and after its state went through a file.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gdnbench.errors import GdnbenchError

# SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014), as signed numbers.
GOLDEN = 0x9E3779B97F4A7C15 - 2**64
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


@dataclass(frozen=True)
class Greedy:
    """The likeliest token; of equal ones the first."""

    seed: int = 0

    def choose(self, logits: Tensor, keys: Tensor, places: Tensor) -> Tensor:
        """Return tokens ``[B]`` of logits ``[B, vocabulary]``."""
        return logits.argmax(-1)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """A token drawn from ``softmax(logits / temperature)``, cut as asked.

    Attributes:
        temperature: above 0.
        top_k: only so many of the likeliest tokens; None: all.
        top_p: of these, only the likeliest until their probabilities sum to it; the one that reaches it is kept.
        seed: equal seeds draw equally; from 0 on.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise GdnbenchError(
                f"temperature {self.temperature:g}: expected a number above 0, or none for the likeliest tokens"
            )
        if self.top_k is not None and self.top_k < 1:
            raise GdnbenchError(f"top-k {self.top_k}: expected a number of tokens from 1 on")
        if not 0 < self.top_p <= 1:
            raise GdnbenchError(f"top-p {self.top_p:g}: expected a probability above 0 and at most 1")
        if not 0 <= self.seed < 2**63:
            raise GdnbenchError(f"seed {self.seed}: expected a number from 0 to 2^63 - 1")

    def choose(self, logits: Tensor, keys: Tensor, places: Tensor) -> Tensor:
        """Return tokens ``[B]`` of logits ``[B, vocabulary]``, drawn with `uniform` of ``keys`` and ``places``."""
        logits, order = self._candidates(logits / self.temperature)
        p = logits.softmax(-1, dtype=torch.float64)
        below = p.cumsum(-1)
        kept = torch.ones_like(below, dtype=torch.bool) if self.top_p == 1 else below - p < self.top_p
        mass = (p * kept).sum(-1, keepdim=True)
        index = torch.searchsorted(below, uniform(keys, places)[:, None] * mass, right=True)
        # A product that rounds up to the whole mass would lie behind the last token.
        index = index.minimum(kept.sum(-1, keepdim=True) - 1)
        return (index if order is None else order.gather(-1, index))[:, 0]

    def _candidates(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the logits that can be drawn, and where the cuts want them in order the tokens they belong to."""
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            return torch.topk(logits, self.top_k, sorted=True)
        return logits.sort(-1, descending=True) if self.top_p < 1 else (logits, None)


def stream_keys(seed: int, streams: Sequence[int]) -> Tensor:
    """Return the key ``[B]`` of each of a seed's streams, int64."""
    return _mix(_mix(torch.tensor(seed + 1) * GOLDEN) + torch.tensor(streams, dtype=torch.int64) * GOLDEN)


def uniform(keys: Tensor, places: Tensor) -> Tensor:
    """Return a number in [0, 1) for each key ``[B]`` at each place ``[B]``, float64 with 53 random bits."""
    bits = _mix(keys + (places.long() + 1) * GOLDEN)
    return _right(bits, 11).double() * 2.0**-53


def _mix(z: Tensor) -> Tensor:
    """Scramble 64 bits."""
    z = (z ^ _right(z, 30)) * FIRST
    z = (z ^ _right(z, 27)) * SECOND
    return z ^ _right(z, 31)


def _right(z: Tensor, places: int) -> Tensor:
    """Shift right, filling with zeros."""
    return (z >> places) & (2 ** (64 - places) - 1)
