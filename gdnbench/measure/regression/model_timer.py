"""Times a tree's own training step and generation in a worker: as its `bench train` and `bench decode` build them.

All of gdnbench that is imported here is the tree's, by names that older trees have, too; one that has not raises, which
is what the comparison then says of the case.
"""

import gc
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

WARM_UP = 8  # training steps: a step is compiled by the first, and captured by the fifth
SAMPLE_MS = 40.0  # of a sample: of steps, one after the other


class Timer:
    """Holds one model and what it does."""

    least = 1  # samples of a block

    def __init__(self) -> None:
        self.call: Callable[[], None] = lambda: None
        self.begin: Callable[[], object] = lambda: None
        self.units, self.device = 1, "cpu"

    def place(self) -> str:
        """Return where the package lies."""
        import gdnbench

        return str(gdnbench.__file__)

    def prepare(self, question: Mapping[str, Any]) -> str:
        """Build a model and run it once; return what a unit is, whose milliseconds `sample` gives."""
        self.call, self.begin = (lambda: None), (lambda: None)
        self.device = question["device"]
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()  # The other tree's process needs the memory.
        sizes: dict[str, Any] = {key: question[key] for key in ("width", "depth", "vocab_size")}
        if question["part"] == "training":
            self._train(question, sizes)
        else:
            self._decode(question, sizes)
        return question["part"]

    def sample(self) -> float:
        """Return milliseconds of a unit: a training step, or a generated token."""
        self.begin()
        self._wait()
        started = time.perf_counter()
        self.call()
        self._wait()
        return 1e3 * (time.perf_counter() - started) / self.units

    def _train(self, question: Mapping[str, Any], sizes: Mapping[str, Any]) -> None:
        """Hold a trainer, and so many steps a sample that it is long enough."""
        from gdnbench.measure.training import grid
        from gdnbench.runs.training_step import OwnTrainer

        cases = grid.cases(
            device=self.device,
            archs=[question["arch"]],
            impls=["gdnbench"],
            batch=question["batch"],
            seq_len=question["length"],
            **sizes,
        )
        trainer = OwnTrainer(next(case for case in cases if case.model.block == question["block"]))
        for _ in range(WARM_UP):
            trainer.step()
        if not math.isfinite(trainer.loss()):
            raise ValueError(f"its loss is {trainer.loss()} after {WARM_UP} steps")
        self.units, self.call = 1, trainer.step
        self.units = max(1, math.ceil(SAMPLE_MS / self.sample()))

        def steps() -> None:
            for _ in range(self.units):
                trainer.step()

        self.call = steps

    def _decode(self, question: Mapping[str, Any], sizes: Mapping[str, Any]) -> None:
        """Hold an engine that goes back behind the prompt before each sample, whose tokens are then generated."""
        from gdnbench.measure.decoding import grid, own
        from gdnbench.measure.decoding.case import UNTIMED

        asked = grid.Asked(
            device=self.device,
            archs=(question["arch"],),
            sizes=(question["size"],),
            impls=("gdnbench",),
            batches=(question["batch"],),
            contexts=(question["length"],),
            **sizes,
        )
        case = next(case for case in grid.cases(asked) if case.model.block == question["block"])
        tokens = question["tokens"]
        prompts = own.prompts(case, 1, case.context)
        session = own.OwnHost(case).session(prompts, case.batch, UNTIMED + tokens + 2)

        def begin() -> None:
            session.first()
            session.begin()

        self.units, self.begin = tokens + 1, begin
        self.call = lambda: session.stretch(tokens, lambda: None)
        self.sample()

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
