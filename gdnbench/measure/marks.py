"""Moments in a stream of work: recorded on the device without waiting for it, read as milliseconds afterwards."""

import itertools
import time

import torch


class Marks:
    """Calling it notes a moment: an event on a GPU, which the host does not wait for, else the clock."""

    def __init__(self, device: str):
        self.cuda = device == "cuda"
        self.events: list[torch.cuda.Event] = []
        self.clock: list[float] = []

    def __call__(self) -> None:
        """Note a moment."""
        if not self.cuda:
            self.clock.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self.events.append(event)

    def ms(self) -> tuple[float, ...]:
        """Return the milliseconds from each moment to the next, once the device has come to all of them."""
        if not self.cuda:
            return tuple(1e3 * (b - a) for a, b in itertools.pairwise(self.clock))
        torch.cuda.synchronize()
        return tuple(a.elapsed_time(b) for a, b in itertools.pairwise(self.events))
