"""Multi-query associative recall (Arora, Eyuboglu et al.: Zoology, arXiv 2312.04927, section 4)."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gdnbench.data.tasks.draws import Draws
from gdnbench.data.tasks.task import NOT_ASKED, Case, Sequences, Task
from gdnbench.errors import GdnbenchError


@dataclass(frozen=True, kw_only=True)
class Recall(Task):
    """Key-value pairs, then every key once more as a query, to be answered by its value.

    Keys are different words of the lower half of the vocabulary, values different ones of the upper half, each key
    followed by its value. The slots of two tokens behind the pairs are taken by the queries; a query's slot ``i``
    (from 1) is drawn with weight ``i^(power - 1)``, so that gaps follow a power law; power 1 is uniform. All other
    tokens are the filler, 0, or with ``random_fillers`` any word. Only queries ask; nothing in the sequence answers.

    Attributes:
        pairs: numbers of pairs. The rows of a batch take them in turn; accuracy is measured for each by itself.
        vocabulary: words; Zoology has 8,192.
        power: exponent of the law of gaps; Zoology has 0.01.
        random_fillers: whether tokens in between are drawn from all words instead of being the filler.
    """

    title: ClassVar[str] = "multi-query associative recall"

    pairs: tuple[int, ...] = (4, 8, 16, 32, 64)
    vocabulary: int = 8192
    power: float = 0.01
    random_fillers: bool = False

    def __post_init__(self) -> None:
        if not self.pairs or min(self.pairs) < 1:
            raise GdnbenchError(f"task.pairs: expected numbers of pairs of at least 1, got {list(self.pairs)}")
        if self.vocabulary // 2 - 1 < max(self.pairs):
            raise GdnbenchError(
                f"task.vocabulary: {self.vocabulary} words hold {max(0, self.vocabulary // 2 - 1)} keys, "
                f"{max(self.pairs)} pairs need {2 * max(self.pairs) + 2} words"
            )

    @property
    def vocab_size(self) -> int:
        """The number of words."""
        return self.vocabulary

    @property
    def shortest(self) -> int:
        """Two tokens a pair, and a slot of two for its query."""
        return 4 * max(self.pairs)

    def check(self, seq_len: int) -> None:
        """Raise unless all pairs and their queries find room."""
        if seq_len < self.shortest or seq_len % 2:
            raise GdnbenchError(
                f"task:mqar: {max(self.pairs)} pairs need an even seq_len of at least {self.shortest}, got {seq_len}"
            )

    def draw(self, draws: Draws, rows: int, seq_len: int) -> Sequences:
        """Return sequences; the ``i``-th has the ``i mod n``-th number of pairs."""
        inputs = np.zeros((rows, seq_len), dtype=np.int64)
        targets = np.full((rows, seq_len), NOT_ASKED, dtype=np.int64)
        for turn, pairs in enumerate(self.pairs):
            chosen = np.arange(turn, rows, len(self.pairs))
            if len(chosen):
                inputs[chosen], targets[chosen] = self._with_pairs(draws, len(chosen), seq_len, pairs)
        if self.random_fillers:
            inputs = np.where(inputs == 0, draws.integers(self.vocabulary, rows, seq_len), inputs)
        return Sequences(inputs=inputs, targets=targets)

    def cases(self, seq_len: int, lengths: Sequence[int]) -> tuple[Case, ...]:
        """Return one case a number of pairs, at the training length."""
        if lengths:
            raise GdnbenchError(f"evaluation.lengths: task:mqar is measured by pairs, at seq_len; got {list(lengths)}")
        only = (dataclasses.replace(self, pairs=(pairs,)) for pairs in self.pairs)
        return tuple(Case(axis="pairs", value=task.pairs[0], task=task, seq_len=seq_len) for task in only)

    def _with_pairs(self, draws: Draws, rows: int, seq_len: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
        half = self.vocabulary // 2
        keys = 1 + draws.distinct(half - 1, rows, pairs)
        values = half + draws.distinct(self.vocabulary - half, rows, pairs)
        slots = (seq_len - 2 * pairs) // 2
        weights = np.arange(1, slots + 1, dtype=np.float64) ** (self.power - 1)
        places = 2 * pairs + 2 * draws.weighted(weights, rows, pairs)
        inputs = np.zeros((rows, seq_len), dtype=np.int64)
        targets = np.full((rows, seq_len), NOT_ASKED, dtype=np.int64)
        inputs[:, 0 : 2 * pairs : 2], inputs[:, 1 : 2 * pairs : 2] = keys, values
        np.put_along_axis(inputs, places, keys, axis=1)
        np.put_along_axis(targets, places, values, axis=1)
        return inputs, targets
