"""State tracking: the word problem of a finite group (Merrill, Petty, Sabharwal: arXiv 2404.08819).

A word is a sequence of group elements; after every one of them the product so far is asked. Parity is the word problem
of Z2. What a linear recurrence needs for it is known (Grazzi et al., arXiv 2411.12537, theorem 1): on the word 1, 1, 1,
... each layer applies one and the same transition matrix again and again, and if its eigenvalues lie in [0, 1] its
state converges, so that the answers to even and odd lengths become the same; with an eigenvalue of -1 the state can
change its sign for ever. GDN has ``alpha (I - beta k k^T)``: eigenvalues ``alpha`` and ``alpha (1 - beta)``, which are
not negative while beta stays below 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import ClassVar, Literal

import numpy as np

from gdnbench.data.tasks.draws import Draws
from gdnbench.data.tasks.task import Case, Sequences, Task
from gdnbench.errors import GdnbenchError

# The objects that are permuted. Z2 is the group of permutations of two.
OBJECTS = {"z2": 2, "s3": 3, "s5": 5}


@dataclass(frozen=True, kw_only=True)
class Words(Task):
    """Products of permutations, every one of them asked.

    Token ``i`` is the ``i``-th permutation in lexicographic order, 0 the identity. The answer after ``p1 ... pt`` is
    ``pt after ... after p1``: each permutes what those before it left.

    Attributes:
        group: ``z2`` (parity), ``s3`` or ``s5``.
        elements: ``all`` the group's elements are drawn, or the identity and ``transpositions``, which one Householder
            reflection a token can follow.
    """

    title: ClassVar[str] = "state tracking"

    group: Literal["z2", "s3", "s5"]
    elements: Literal["all", "transpositions"] = "all"

    @property
    def vocab_size(self) -> int:
        """The number of the group's elements."""
        return len(group_elements(self.group))

    @property
    def shortest(self) -> int:
        """Any length will do; this one is hashed."""
        return 64

    def check(self, seq_len: int) -> None:
        """Raise unless there is at least one token."""
        if seq_len < 1:
            raise GdnbenchError(f"task: seq_len {seq_len}, wants at least 1")

    def draw(self, draws: Draws, rows: int, seq_len: int) -> Sequences:
        """Return words of independent, uniformly drawn elements with all their products."""
        chosen, table = _drawn(self.group, self.elements), multiplication(self.group)
        inputs = chosen[draws.integers(len(chosen), rows, seq_len)]
        targets = np.empty_like(inputs)
        product = np.zeros(rows, dtype=np.int64)
        for place in range(seq_len):
            product = table[inputs[:, place], product]
            targets[:, place] = product
        return Sequences(inputs=inputs, targets=targets)

    def cases(self, seq_len: int, lengths: Sequence[int]) -> tuple[Case, ...]:
        """Return a case a length: the answers of words so long that lie behind the length before it."""
        chosen = sorted({seq_len, *lengths})
        return tuple(
            Case(axis="length", value=length, task=self, seq_len=length, first=before)
            for before, length in zip([0, *chosen], chosen)
        )


@cache
def group_elements(group: str) -> tuple[tuple[int, ...], ...]:
    """Return the permutations of a group in the order of their tokens: ``p[i]`` is where object ``i`` goes."""
    return tuple(permutations(range(OBJECTS[group])))


@cache
def multiplication(group: str) -> np.ndarray:
    """Return the table ``[then, first]`` -> token of the permutation that does ``first`` and then ``then``."""
    elements = np.array(group_elements(group))
    index = {element: token for token, element in enumerate(group_elements(group))}
    return np.array([[index[tuple(then[first])] for first in elements] for then in elements], dtype=np.int64)


@cache
def _drawn(group: str, elements: str) -> np.ndarray:
    """Return the tokens that words are made of."""
    moved = [sum(i != p for i, p in enumerate(element)) for element in group_elements(group)]
    return np.array([token for token, count in enumerate(moved) if elements == "all" or count in (0, 2)])
