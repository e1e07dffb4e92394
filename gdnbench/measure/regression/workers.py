"""One long-lived process for each tree, and asking it things."""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from gdnbench.environment import PACKAGE
from gdnbench.errors import GdnbenchError
from gdnbench.measure.regression.cases import Case
from gdnbench.measure.regression.trees import Tree

# For the slowest answer: the first call of a shape, which compiles its kernels.
PATIENCE_SECONDS = 900.0


class CannotTime(GdnbenchError):
    """A tree that cannot be timed, or cannot serve a case; the message names the tree and gives its reason."""


class Worker:
    """The process of one tree."""

    def __init__(self, tree: Tree, log: IO[str]):
        self.tree, self.log = tree, log
        self.pipe, theirs = multiprocessing.Pipe()
        given = os.environ.get("PYTHONPATH")
        path = os.pathsep.join([str(tree.kernels), str(PACKAGE.parent), *([given] if given else [])])
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gdnbench.measure.regression.worker", str(theirs.fileno())],
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        theirs.close()

    def check_place(self) -> None:
        """Raise unless the process runs the tree's own kernels."""
        place = Path(self._answer())
        if not place.is_relative_to(self.tree.kernels):
            raise CannotTime(f"{self.tree.name}: wanted the kernels in {self.tree.kernels}, got {place}")

    def prepare(self, case: Case) -> str:
        """Let the process hold a case's inputs and calls; return how it times them."""
        return self._ask("prepare", case)

    def time(self, block_ms: float) -> float:
        """Return the median milliseconds of the samples of a block, of the case that is held."""
        return self._ask("time", block_ms)

    def stop(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.kill()
        self.process.wait()

    def _ask(self, *message: Any) -> Any:
        with contextlib.suppress(OSError):  # What became of the process, the answer tells.
            self.pipe.send(message)
        return self._answer()

    def _answer(self) -> Any:
        try:
            if not self.pipe.poll(PATIENCE_SECONDS):
                raise CannotTime(f"{self.tree.name}: no answer in {PATIENCE_SECONDS:.0f} s")
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            raise CannotTime(f"{self.tree.name}: its process ended: {self._last_words()}") from None
        if kind == "error":
            raise CannotTime(f"{self.tree.name}: {value}")
        return value

    def _last_words(self) -> str:
        code = self.process.wait()
        self.log.seek(0)
        lines = [line.strip() for line in self.log if line.strip()]
        return lines[-1] if lines else f"exit code {code}"


@contextlib.contextmanager
def workers(*trees: Tree) -> Iterator[list[Worker]]:
    """Start a process for each tree; none is left behind."""
    with contextlib.ExitStack() as stack:
        found = []
        for tree in trees:
            worker = Worker(tree, stack.enter_context(tempfile.TemporaryFile("w+", errors="replace")))
            stack.callback(worker.stop)
            found.append(worker)
        for worker in found:
            worker.check_place()
        yield found
