"""One long-lived process for each tree, and asking it things."""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from gdnbench.environment import PACKAGE
from gdnbench.measure.regression.interleaved import CannotTime, Timed
from gdnbench.measure.regression.trees import Tree

# For the slowest answer: the first call of a shape, which compiles its kernels.
PATIENCE_SECONDS = 900.0
FILE = Path(__file__).with_name("worker.py")

Kind = Literal["kernel", "model"]


class Worker:
    """The process of one tree: of its kernels, under this checkout's harness, or of its models, with all of it."""

    def __init__(self, tree: Tree, log: IO[str], kind: Kind = "kernel"):
        self.tree, self.log, self.kind = tree, log, kind
        self.pipe, theirs = multiprocessing.Pipe()
        given = os.environ.get("PYTHONPATH")
        own = [PACKAGE.parent] if kind == "kernel" else [tree.root, tree.root / "baselines"]
        path = os.pathsep.join([str(tree.kernels), *map(str, own), *([given] if given else [])])
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(FILE), str(theirs.fileno()), kind],
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        theirs.close()

    def check_place(self) -> None:
        """Raise unless the process runs the tree's own kernels, or models."""
        place = Path(self._answer())
        wanted = self.tree.kernels if self.kind == "kernel" else self.tree.root
        if not place.is_relative_to(wanted):
            raise CannotTime(f"{self.tree.name}: wanted the {self.kind}s in {wanted}, got {place}")

    def prepare(self, case: Timed) -> str:
        """Let the process hold a case's inputs and calls; return how it times them."""
        return str(self._ask("prepare", case.message))

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
def workers(*trees: Tree, kind: Kind = "kernel") -> Iterator[list[Worker]]:
    """Start a process for each tree; none is left behind."""
    with contextlib.ExitStack() as stack:
        found = []
        for tree in trees:
            worker = Worker(tree, stack.enter_context(tempfile.TemporaryFile("w+", errors="replace")), kind)
            stack.callback(worker.stop)
            found.append(worker)
        for worker in found:
            worker.check_place()
        yield found
