"""Compiling every listed launch ahead of time, in processes of their own, so that a compiler's crash is one finding."""

import contextlib
import functools
import multiprocessing
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdnbench.errors import GdnbenchError

if TYPE_CHECKING:
    from gdnbench_kernels.launching import Launch
    from gdnbench_kernels.resources import Resources

# What `launches(arch)` is: a module-level function, because other processes call it.
Listing = Callable[[int], "list[tuple[str, Launch]]"]


@dataclass(frozen=True, order=True)
class Row:
    """The place of a kernel in the table: architecture, case (a shape class) and kernel name."""

    arch: int
    case: str
    kernel: str


@dataclass(kw_only=True)
class Compiled:
    """One piece of machine code and the rows that run it.

    Attributes:
        rows: where it is used.
        launch: architecture and place in the listing of a launch that compiles to it.
        resources: what it takes; None where it does not compile, or would not launch.
        failure: the compiler's reason in one line.
        seconds: processor time that compiling it took, the assembler's included.
    """

    rows: list[Row]
    launch: tuple[int, int]
    resources: "Resources | None" = None
    failure: str = ""
    seconds: float = 0.0


def compile_all(listing: Listing, architectures: Sequence[int], workers: int = 2) -> list[Compiled]:
    """Compile what ``listing`` names for each architecture, each distinct kernel once, ``workers`` at a time."""
    with tempfile.TemporaryDirectory() as logs:
        with _pool(workers) as pool:
            wanted = _wanted(pool, listing, architectures)
            lost = _compile(pool, wanted, listing, Path(logs))
        while lost:
            # A crash takes a pool down, and with it the others' results. In one process kernels follow each other, so
            # the first that has no result is the one that crashed.
            with _pool(1) as pool:
                lost = _compile(pool, lost, listing, Path(logs))
            for kernel in lost[:1]:
                kernel.failure = "the compiler crashed"
            lost = lost[1:]
        for kernel in wanted:
            if kernel.resources is None:
                kernel.failure = ": ".join(filter(None, [kernel.failure, _reason(_log(Path(logs), kernel))]))
    return wanted


def _wanted(pool: ProcessPoolExecutor, listing: Listing, architectures: Sequence[int]) -> list[Compiled]:
    try:
        catalogues = pool.map(functools.partial(_catalogue, listing), architectures)
        return [kernel for catalogue in catalogues for kernel in catalogue]
    except Exception as error:  # The drivers of all kernels run in there.
        problem = f"{type(error).__name__}: {error}"
        raise GdnbenchError(f"the launches of the kernels cannot be listed on meta tensors: {problem}") from error


def _compile(pool: ProcessPoolExecutor, kernels: Sequence[Compiled], listing: Listing, logs: Path) -> list[Compiled]:
    """Fill in the results; return, in order, those that a crash of the pool left without one."""
    futures: list[Future[Any]] = []
    for kernel in kernels:
        try:
            futures.append(pool.submit(_measure, listing, _log(logs, kernel), *kernel.launch))
        except BrokenProcessPool:
            break
    lost = []
    for kernel, future in zip(kernels, futures):
        try:
            kernel.resources, kernel.failure, kernel.seconds = future.result()
        except BrokenProcessPool:
            lost.append(kernel)
    return [*lost, *kernels[len(futures) :]]


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare)


def _prepare() -> None:
    """Set up a process before Triton is imported in it: kernels are to be compiled, not interpreted."""
    os.environ.pop("TRITON_INTERPRET", None)
    # The processes are the parallelism; a compiler needs no threads of PyTorch.
    os.environ["OMP_NUM_THREADS"] = "1"


def _log(folder: Path, kernel: Compiled) -> Path:
    return folder / "-".join(map(str, kernel.launch))


def _reason(log: Path) -> str:
    """Return what the compiler's own parts, which know no exceptions, wrote of an error."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    said = re.findall(r"error: (.*)|Assertion (.*)", text)[:1]
    where = re.findall(r"executing \[`(\w+)`", text)[:1]
    return " in ".join(["".join(parts).strip()[:160] for parts in said] + where)


@functools.cache
def _listed(listing: Listing, arch: int) -> "list[tuple[str, Launch]]":
    return listing(arch)


def _catalogue(listing: Listing, arch: int) -> list[Compiled]:
    """Return the distinct kernels of an architecture with the rows they serve."""
    from gdnbench_kernels.resources import specialization

    kernels: dict[str, Compiled] = {}
    names: dict[tuple[str, str], list[str]] = {}
    for index, (case, launch) in enumerate(_listed(listing, arch)):
        key = specialization(launch, arch)
        seen = names.setdefault((case, launch.kernel.__name__), [])
        if key in seen:
            continue
        seen.append(key)
        number = f" #{len(seen)}" if len(seen) > 1 else ""
        kernel = kernels.setdefault(key, Compiled(rows=[], launch=(arch, index)))
        kernel.rows.append(Row(arch, case, launch.kernel.__name__ + number))
    return list(kernels.values())


def _measure(listing: Listing, log: Path, arch: int, index: int) -> "tuple[Resources | None, str, float]":
    from gdnbench_kernels.resources import CompilationFailed, measure

    start = sum(os.times()[:4])
    with log.open("w") as file, _errors_into(file.fileno()):
        try:
            found, failure = measure(_listed(listing, arch)[index][1], arch), ""
        except CompilationFailed as error:
            found, failure = None, str(error)
    return found, failure, sum(os.times()[:4]) - start


@contextlib.contextmanager
def _errors_into(file: int) -> Iterator[None]:
    """Send what is written to standard error, by libraries too, to a file: a compiler says whole modules there."""
    before = os.dup(2)
    os.dup2(file, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
