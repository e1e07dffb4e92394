"""A pool of worker processes, each behind a pipe of its own, so that a killed worker harms no other."""

import multiprocessing
import os
import signal
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from gdnbench.plan.spec import RunSpec
from gdnbench.runs.worker import Settings, work

# A worker saves within a training step; one in an evaluation or a measurement, which has nothing to save, is ended.
STOP_SECONDS = 30.0

_SPAWN = multiprocessing.get_context("spawn")


@dataclass
class Worker:
    """A process, its pipe, the run it is on, and the forms of the runs that it has had."""

    process: Any
    pipe: Connection
    run: RunSpec | None = None
    forms: set[Hashable] = field(default_factory=set)


def form(spec: RunSpec) -> Hashable:
    """Return what a process compiles once for all runs that have it in common; None where nothing is compiled.

    Constants of a parametrization are constants of the compiled code; rates and seeds are not.
    """
    if spec.training is None or not spec.execution.compile:
        return None
    size = spec.training.batch_size, spec.training.seq_len, spec.execution
    return repr((spec.model, spec.parametrization, spec.device, spec.dtype, spec.residual, size))


class Pool:
    """Worker processes that are started when first needed and replaced when they die."""

    def __init__(self, size: int, settings: Settings):
        self.size, self.settings = size, settings
        self.workers: list[Worker] = []

    @property
    def running(self) -> list[RunSpec]:
        """The runs that workers are on."""
        return [worker.run for worker in self.workers if worker.run is not None]

    def suited(self, specs: Sequence[RunSpec]) -> RunSpec:
        """Return which of equally important runs to start next, the caller knowing that one can start.

        One that an idle worker has compiled before; else one that no other worker has: then each process compiles its
        own share, instead of all of them the same at once. Else the first.
        """
        held = set().union(*(worker.forms for worker in self.workers))
        at_hand = set().union(*(worker.forms for worker in self.workers if worker.run is None))

        def order(spec: RunSpec) -> int:
            own = form(spec)
            return 0 if own in at_hand else 2 if own in held else 1

        return min(specs, key=order)

    def start(self, spec: RunSpec, about: dict[str, Any]) -> None:
        """Give a run to an idle worker; the caller knows that fewer than ``size`` are running."""
        idle = [worker for worker in self.workers if worker.run is None]
        own = form(spec)
        for worker in sorted(idle, key=lambda worker: own not in worker.forms):
            try:
                worker.pipe.send(("run", spec, about))
            except OSError:
                self._buried(worker)  # It died while it was idle.
                continue
            break
        else:
            worker = self._spawn()
            worker.pipe.send(("run", spec, about))
        worker.run = spec
        worker.forms.add(own)

    def events(self, timeout: float) -> Iterator[tuple[Any, ...]]:
        """Yield what workers say within ``timeout`` seconds; a worker that died says ``("failed", run_id, reason)``."""
        by_pipe = {worker.pipe: worker for worker in self.workers}
        for pipe in wait(list(by_pipe), timeout):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                message = self._buried(worker)
                if message is None:
                    continue
            if message[0] != "beat":
                worker.run = None
            yield message

    def stop(self) -> None:
        """Ask all workers to save and end; wait for them."""
        for worker in self.workers:
            try:
                worker.pipe.send(("stop",))
            except OSError:
                continue
        for worker in self.workers:
            self._drain(worker)
            worker.process.join(timeout=1)
            worker.process.kill()
        self.workers.clear()

    def _spawn(self) -> Worker:
        # Read by the numerical libraries when the new process loads them.
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(self.settings.threads)
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=work, args=(theirs, self.settings), daemon=True)
        # A worker hears of an interruption through its pipe; the keyboard's own signal would find Python half begun.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self.workers.append(Worker(process=process, pipe=ours))
        return self.workers[-1]

    def _buried(self, worker: Worker) -> tuple[Any, ...] | None:
        """Forget a dead worker; return the failure of the run it was on, if any."""
        worker.process.join()
        self.workers.remove(worker)
        if worker.run is None:
            return None
        code = worker.process.exitcode
        reason = f"killed by signal {-code} (9 may mean out of memory)" if code < 0 else f"exit code {code}"
        return "failed", worker.run.run_id, f"its process ended: {reason}"

    @staticmethod
    def _drain(worker: Worker) -> None:
        """Read what a stopping worker still says, so that it does not wait for a reader; not for ever."""
        end = time.monotonic() + STOP_SECONDS
        try:
            while worker.pipe.poll(max(0.0, end - time.monotonic())):
                worker.pipe.recv()
        except (EOFError, OSError):
            return
