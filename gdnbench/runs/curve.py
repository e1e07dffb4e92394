"""Losses and gradient norms of training steps, kept where they are computed until somebody reads them."""

import torch
from torch import Tensor

ROOM = 1024  # steps


class Curve:
    """Numbers of the steps since they were last read, on the device of the training.

    `write` is work of the device alone, so it may be part of a CUDA graph; the host counts steps with `stepped`.
    """

    def __init__(self, device: str):
        self.losses: list[float] = []
        self.norm = 0.0
        self._values = torch.zeros(2, ROOM, dtype=torch.float64, device=device)
        self._place = torch.zeros(1, dtype=torch.int64, device=device)
        self._read, self._written = 0, 0

    def write(self, loss: Tensor, norm: Tensor) -> None:
        """Keep the numbers of a step."""
        self._values.index_copy_(1, self._place, torch.stack([loss.detach(), norm]).to(self._values)[:, None])
        self._place.add_(1).remainder_(ROOM)

    def stepped(self) -> None:
        """Count a step whose numbers are, or will be, written; reads them while there is room for no more."""
        self._written += 1
        if self._written - self._read == ROOM:
            self.read()

    def read(self) -> None:
        """Bring all losses, and the norm of the last step, to the host; waits for the device."""
        if self._written == self._read:
            return
        places = torch.arange(self._read, self._written) % ROOM
        losses, norms = self._values.cpu()[:, places].tolist()
        self.losses += losses
        self.norm, self._read = norms[-1], self._written
