"""A process that times the kernels of one tree: it holds its inputs, and times only when it is asked to.

Started by `gdnbench.measure.regression.workers` with the tree's kernels first on the path. All trees are timed by the
harness of the checkout that compares them; only the kernels differ.
"""

import statistics
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import torch

from gdnbench.measure.kernels.timing import sampler
from gdnbench.measure.regression.cases import Case, calls

LEAST_SAMPLES = 3  # of a block


def main(descriptor: int) -> None:
    """Serve the pipe behind a file descriptor until the other end closes.

    Messages in: ``("prepare", case)`` and ``("time", block_ms)``; out: ``("ok", value)`` or ``("error", reason)``,
    after a first one that says where the kernels lie.
    """
    pipe = Connection(descriptor)
    try:
        pipe.send(_answer(_place))
        held: list[Any] = []
        while True:
            verb, argument = pipe.recv()
            pipe.send(_answer(_prepare, held, argument) if verb == "prepare" else _answer(_time, held, argument))
    except (EOFError, OSError):
        return


def _place() -> str:
    import gdnbench_kernels

    return str(gdnbench_kernels.__file__)


def _prepare(held: list[Any], case: Case) -> str:
    """Replace what is held by the sampler of a case; return how it times."""
    held.clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # The other tree's process needs the memory.
    held.append(sampler(calls(case), case.timing, case.device))
    return held[0].note or held[0].how


def _time(held: list[Any], block_ms: float) -> float:
    """Return the median milliseconds of a block's samples, after one that finds out that it is this process's turn."""
    held[0].sample()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < LEAST_SAMPLES or 1e3 * (time.perf_counter() - started) < block_ms:
        times.append(held[0].sample())
    return statistics.median(times)


def _answer(function: Any, *arguments: Any) -> tuple[str, Any]:
    try:
        return "ok", function(*arguments)
    except Exception as error:  # Whatever another tree's kernels raise is an answer, not the end of the comparison.
        return "error", f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main(int(sys.argv[1]))
