"""A process that times one tree: it holds what it times, and times only when it is asked to.

Started by `gdnbench.measure.regression.workers` by this file's path, with the tree's packages first on the path of
modules. What it times is said by a file beside this one: `kernel_timer` (the harness of the checkout that compares, on
the tree's kernels) or `model_timer` (the whole tree). Nothing of gdnbench is imported here: it may be the tree's.
"""

import importlib.util
import statistics
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def main(descriptor: int, kind: str) -> None:
    """Serve the pipe behind a file descriptor until the other end closes.

    Messages in: ``("prepare", case)`` and ``("time", block_ms)``; out: ``("ok", value)`` or ``("error", reason)``,
    after a first one that says where the packages lie.
    """
    pipe = Connection(descriptor)
    held: list[Any] = []
    try:
        pipe.send(_answer(_begin, held, kind))
        while True:
            verb, argument = pipe.recv()
            pipe.send(_answer(_prepare if verb == "prepare" else _time, held, argument))
    except (EOFError, OSError):
        return


def _begin(held: list[Any], kind: str) -> str:
    """Load the timer of a kind and hold it; return where what it times lies."""
    path = Path(__file__).with_name(f"{kind}_timer.py")
    spec = importlib.util.spec_from_file_location(f"gdnbench_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    held.append(module.Timer())
    return str(held[0].place())


def _prepare(held: list[Any], case: Any) -> str:
    return str(held[0].prepare(case))


def _time(held: list[Any], block_ms: float) -> float:
    """Return the median milliseconds of a block's samples, after one that finds out that it is this process's turn."""
    timer = held[0]
    timer.sample()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < timer.least or 1e3 * (time.perf_counter() - started) < block_ms:
        times.append(timer.sample())
    return statistics.median(times)


def _answer(function: Any, *arguments: Any) -> tuple[str, Any]:
    try:
        return "ok", function(*arguments)
    except Exception as error:  # Whatever another tree's code raises is an answer, not the end of the comparison.
        return "error", f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
