"""A synthetic task: sequences drawn from a seed, where some positions ask for an answer and the others do not count."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gdnbench.data.tasks.draws import Draws

NOT_ASKED = -100  # the target of a position that asks nothing, as PyTorch's cross_entropy has it
# First number of the key of each split's draws: no two splits share a draw.
SPLITS = {"train": 0, "valid": 1, "test": 2}


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Sequences with what they ask: ``inputs`` and ``targets`` int64 [N, T], targets `NOT_ASKED` or the answer."""

    inputs: np.ndarray
    targets: np.ndarray

    def digest(self) -> str:
        """Return the SHA-256 of all tokens and answers."""
        hasher = hashlib.sha256()
        for array in (self.inputs, self.targets):
            hasher.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return hasher.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Case:
    """Sequences that one accuracy is measured on.

    Attributes:
        axis: what is varied: ``pairs`` or ``length``.
        value: its value.
        task: the task whose sequences they are.
        seq_len: tokens of a sequence.
        first: position from which on answers count.
    """

    axis: str
    value: int
    task: "Task"
    seq_len: int
    first: int = 0

    @property
    def metric(self) -> str:
        """The metric's name: ``accuracy_pairs_16``, ``accuracy_at_256``."""
        return f"accuracy_pairs_{self.value}" if self.axis == "pairs" else f"accuracy_at_{self.value}"


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Options of a task, and how its sequences are drawn."""

    title: ClassVar[str] = ""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """The number of tokens, inputs and answers together."""

    @abstractmethod
    def check(self, seq_len: int) -> None:
        """Raise `GdnbenchError` unless sequences of ``seq_len`` tokens can be drawn."""

    @abstractmethod
    def draw(self, draws: Draws, rows: int, seq_len: int) -> Sequences:
        """Return ``rows`` sequences of ``seq_len`` tokens."""

    @abstractmethod
    def cases(self, seq_len: int, lengths: Sequence[int]) -> tuple[Case, ...]:
        """Return what accuracy is measured on after training at ``seq_len``; ``lengths``: on sequences so long, too."""

    @property
    @abstractmethod
    def shortest(self) -> int:
        """A length at which it can be drawn."""

    def held_out(self, split: str, rows: int, seq_len: int) -> Sequences:
        """Return the same ``rows`` sequences of ``valid`` or ``test`` for every model and seed."""
        self.check(seq_len)
        return self.draw(Draws(SPLITS[split], seq_len), rows, seq_len)
