"""Which tokens a training step sees: a pure function of the seed and the step."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch

from gdnbench.errors import GdnbenchError


class BatchSampler:
    """Batches of windows of a token array, the same for every model that uses the same seed and sizes.

    An epoch visits each of its non-overlapping windows of ``seq_len`` inputs exactly once, in a seeded order and
    shifted by a seeded offset, so that windows are cut elsewhere in each epoch. Only raw bits of PCG64 are used:
    NumPy promises that those never change, and promises less of its shuffles.
    """

    def __init__(self, tokens: np.ndarray, *, batch_size: int, seq_len: int, seed: int) -> None:
        if batch_size < 1 or seq_len < 1 or seed < 0:
            raise GdnbenchError(
                f"batches: batch_size {batch_size}, seq_len {seq_len}, seed {seed}: sizes start at 1, seeds at 0"
            )
        if len(tokens) < seq_len + 1:
            raise GdnbenchError(
                f"the split has {len(tokens)} tokens, but one sequence of seq_len {seq_len} needs {seq_len + 1}; "
                f"use more text or a shorter seq_len"
            )
        self.tokens = tokens
        self.batch_size = batch_size
        self.seq_len = seq_len
        self.seed = seed
        self.shape: tuple[int, ...] = (batch_size, seq_len + 1)
        # One window less than would fit, where there are several, leaves room for every offset.
        self.windows_per_epoch = max(1, (len(tokens) - seq_len) // seq_len)
        self._starts: dict[int, np.ndarray] = {}

    def batch(self, step: int) -> torch.Tensor:
        """Return the batch of ``step``, int64 [B, T + 1]: columns 0 … T-1 are inputs, 1 … T their targets."""
        if step < 0:
            raise GdnbenchError(f"batches: step {step}: steps count from 0")
        first = step * self.batch_size
        starts = [self._start(index) for index in range(first, first + self.batch_size)]
        windows = np.stack([self.tokens[start : start + self.seq_len + 1] for start in starts])
        return torch.from_numpy(windows.astype(np.int64))

    def parts(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the inputs and the targets ``[B, T]`` of a batch."""
        return batch[:, :-1], batch[:, 1:]

    def share(self, part: torch.Tensor, whole: torch.Tensor) -> float:
        """Return the weight of a pass in the mean over a batch, by their targets: all rows count alike."""
        return len(part) / len(whole)

    def epochs(self, steps: int) -> float:
        """Return how often ``steps`` steps visit the split."""
        return steps * self.batch_size / self.windows_per_epoch

    def _start(self, index: int) -> int:
        epoch, position = divmod(index, self.windows_per_epoch)
        if epoch not in self._starts:
            # Two epochs are enough for a batch that crosses the boundary between them.
            self._starts = {e: s for e, s in self._starts.items() if e == epoch - 1}
            self._starts[epoch] = self._epoch_starts(epoch)
        return int(self._starts[epoch][position])

    def _epoch_starts(self, epoch: int) -> np.ndarray:
        """Return the first token of each window of ``epoch``, int64 [windows_per_epoch], in visiting order."""
        bits = np.random.PCG64(np.random.SeedSequence([self.seed, epoch]))
        room = len(self.tokens) - 1 - self.windows_per_epoch * self.seq_len
        offset = int(bits.random_raw()) % (min(room, self.seq_len - 1) + 1)
        order = np.argsort(bits.random_raw(self.windows_per_epoch), kind="stable")
        return order.astype(np.int64) * self.seq_len + offset


class Sampler(Protocol):
    """What a training takes its batches from: a text (`BatchSampler`) or a task."""

    shape: tuple[int, ...]

    def batch(self, step: int) -> torch.Tensor:
        """Return the batch of ``step``, int64 of this ``shape``."""

    def parts(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the inputs and the targets ``[B, T]`` of a batch; a target of -100 does not count."""

    def share(self, part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor | float:
        """Return the weight of a pass's mean loss in that of the batch, by their targets."""

    def epochs(self, steps: int) -> float:
        """Return how often ``steps`` steps visit what there is to see; 0 where it has no end."""


class Feed:
    """A sampler's batches on a device, each made in a thread while the step before it is computed.

    On a GPU all lie in the same memory, and two steps may wait there to be computed: `load` waits for the third.
    """

    def __init__(self, sampler: Sampler, device: str) -> None:
        self.sampler = sampler
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead: tuple[int, Future[torch.Tensor]] = self._begun(0)
        self._cuda = device == "cuda"
        self.batch = torch.zeros(sampler.shape, dtype=torch.int64, device=device)
        if self._cuda:
            self._sent = [(torch.empty_like(self.batch, device="cpu").pin_memory(), torch.cuda.Event()) for _ in "ab"]

    def load(self, step: int) -> None:
        """Make ``batch`` that of ``step``, after all work that was given to the device before."""
        if self._ahead[0] != step:
            self._ahead = self._begun(step)
        batch = self._ahead[1].result()
        self._ahead = self._begun(step + 1)
        if not self._cuda:
            self.batch = batch
            return
        pinned, copied = self._sent[step % 2]
        copied.synchronize()
        self.batch.copy_(pinned.copy_(batch), non_blocking=True)
        copied.record()

    def _begun(self, step: int) -> "tuple[int, Future[torch.Tensor]]":
        return step, self._thread.submit(self.sampler.batch, step)
