"""A whole step of training or generation as one CUDA graph: a single launch, however many kernels it has."""

import functools
from collections.abc import Callable

import torch

WARM_UP = 3


@functools.cache
def _beside() -> torch.cuda.Stream:
    """Return the process's one stream for all graphs: cuBLAS keeps a workspace for every stream that it has seen."""
    return torch.cuda.Stream()


class Replayed:
    """A function without arguments that a CUDA graph takes the place of from its fourth call on.

    All it reads and writes must keep its place in memory. The first calls run it as it is: kernels are compiled,
    libraries choose algorithms, an optimizer makes its state. Capturing computes nothing, so each call counts once.
    """

    def __init__(self, function: Callable[[], None], release: Callable[[], None] = lambda: None):
        """Take a function, and one that gives back memory which its next call makes anew (gradients)."""
        self.function, self.release = function, release
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        # Capturing refuses work that waits for the default stream, where earlier calls must leave nothing behind.
        self.stream = _beside()

    def __call__(self) -> None:
        """Run the function, or the graph."""
        self.calls += 1
        if self.calls > WARM_UP:
            self.graph = self.graph or self._captured()
            self.graph.replay()
            return
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            self.function()
        torch.cuda.current_stream().wait_stream(self.stream)

    def forget(self) -> None:
        """Drop the graph, for what it reads has moved; the next calls warm up again."""
        self.graph, self.calls = None, 0

    def _captured(self) -> torch.cuda.CUDAGraph:
        self.release()
        graph = torch.cuda.CUDAGraph()
        # Beginning gives the allocator's free memory back, so that the graph's own does not come on top of it.
        with torch.cuda.graph(graph, stream=self.stream):
            self.function()
        return graph
