"""A task in the place of a text: fresh batches without end, and the hash that says which task it was."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gdnbench.configuration import canonical_json
from gdnbench.data.tasks.draws import Draws
from gdnbench.data.tasks.task import NOT_ASKED, SPLITS, Task
from gdnbench.errors import GdnbenchError

# Part of a task's hash: raise it when equal options are to mean other sequences.
FORMAT_VERSION = 1
HASHED_ROWS = 64


class TaskSampler:
    """Batches of fresh sequences, a pure function of seed and step: no sequence is drawn for a second time by design.

    It is to a task what `gdnbench.data.BatchSampler` is to a text.
    """

    def __init__(self, task: Task, *, batch_size: int, seq_len: int, seed: int) -> None:
        if batch_size < 1 or seq_len < 1 or seed < 0:
            raise GdnbenchError(
                f"batches: batch_size {batch_size}, seq_len {seq_len}, seed {seed}: sizes start at 1, seeds at 0"
            )
        task.check(seq_len)
        self.task, self.batch_size, self.seq_len, self.seed = task, batch_size, seq_len, seed
        self.shape: tuple[int, ...] = (batch_size, 2, seq_len)

    def batch(self, step: int) -> torch.Tensor:
        """Return the batch of ``step``, int64 [B, 2, T]: inputs and targets."""
        if step < 0:
            raise GdnbenchError(f"batches: step {step}: steps count from 0")
        drawn = self.task.draw(Draws(SPLITS["train"], self.seed, step), self.batch_size, self.seq_len)
        return torch.from_numpy(np.stack([drawn.inputs, drawn.targets], axis=1))

    def parts(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the inputs and the targets ``[B, T]`` of a batch."""
        return batch[:, 0], batch[:, 1]

    def share(self, part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """Return the weight of a pass in the mean over a batch, by their targets: the share of the answers."""
        return (part != NOT_ASKED).sum().double() / (whole != NOT_ASKED).sum()

    def epochs(self, steps: int) -> float:
        """Return 0: what is drawn has no end that could be reached."""
        return 0.0


class TaskCorpus:
    """A task in the place of a text: what a run trains on, and the hash that its record keeps."""

    tokenizer_hash = ""

    def __init__(self, name: str, task: Task) -> None:
        self.name, self.task = name, task

    @property
    def corpus_hash(self) -> str:
        """The SHA-256 of the options and of the first sequences of every split at the shortest length."""
        hasher = hashlib.sha256(f"{FORMAT_VERSION} {self.name} {canonical_json(self.task)}".encode())
        for split in SPLITS:
            drawn = self.task.draw(Draws(SPLITS[split], 0, 0), HASHED_ROWS, self.task.shortest)
            hasher.update(drawn.digest().encode())
        return hasher.hexdigest()

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What a record keeps about it."""
        return {"task": self.task.title}

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""
        return self.task.vocab_size

    def sampler(self, *, batch_size: int, seq_len: int, seed: int) -> TaskSampler:
        """Return the training batches."""
        return TaskSampler(self.task, batch_size=batch_size, seq_len=seq_len, seed=seed)
