"""Times a tree's kernels in a worker: calls and clocks are those of the checkout that compares, for all trees alike."""

from typing import Any

import torch

from gdnbench.measure.kernels.timing import sampler
from gdnbench.measure.regression.cases import Case, calls


class Timer:
    """Holds one case's inputs and calls."""

    least = 3  # samples of a block

    def __init__(self) -> None:
        self.held: Any = None

    def place(self) -> str:
        """Return where the kernels lie."""
        import gdnbench_kernels

        return str(gdnbench_kernels.__file__)

    def prepare(self, case: Case) -> str:
        """Replace what is held by the sampler of a case; return how it times."""
        self.held = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # The other tree's process needs the memory.
        self.held = sampler(calls(case), case.timing, case.device)
        return self.held.note or str(self.held.how)

    def sample(self) -> float:
        """Return milliseconds of one call."""
        return float(self.held.sample())
