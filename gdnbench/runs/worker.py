"""A worker process: takes specifications from its pipe, runs them, and tells what happens.

It ignores Ctrl-C, which is its parent's to handle, and ends at once when the parent is gone, so that a killed command
leaves no process behind that still holds a run.
"""

import contextlib
import gc
import os
import signal
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gdnbench.errors import GdnbenchError

BEAT_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all runs of a worker share.

    Attributes:
        root: folder of all result sets.
        set: name of the set.
        threads: threads of a run.
        deterministic: whether PyTorch refuses operations that are not.
        changed_code: what to do with a checkpoint that other sources wrote.
        mixers: files of mixers from outside the repository.
    """

    root: Path
    set: str
    threads: int = 1
    deterministic: bool = False
    changed_code: str = "refuse"
    mixers: tuple[Path, ...] = ()


def work(pipe: Connection, settings: Settings) -> None:
    """Serve specifications until the parent says stop.

    Messages in: ``("run", spec, about)`` and ``("stop",)``. Messages out: ``("beat", Beat)`` and, at the end of a run,
    one of ``("done", run_id)``, ``("busy", run_id)``, ``("stopped", run_id)``, ``("refused", run_id, message)`` for a
    mistake the user can mend, and ``("failed", run_id, message)`` for anything else.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import torch

    from gdnbench.models import registry

    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(settings.deterministic)
    for path in settings.mixers:
        registry.add_file(path)
    while True:
        message = _receive(pipe)
        if message[0] == "stop" or not _run(pipe, settings, message[1], message[2]):
            return


def _run(pipe: Connection, settings: Settings, spec: Any, about: dict[str, Any]) -> bool:
    """Run one specification and tell its end; return False if it was asked to stop."""
    from gdnbench.results import Store
    from gdnbench.results.store import Busy
    from gdnbench.runs.execute import execute
    from gdnbench.runs.progress import Beat, Interrupted, Observer

    told, asked = 0.0, False

    def beat(sign: Beat) -> None:
        nonlocal told
        if time.monotonic() - told > BEAT_SECONDS:
            told = time.monotonic()
            _send(pipe, "beat", sign)

    def stop() -> bool:
        # Remembered: the message comes once, and saving may fail after it.
        nonlocal asked
        asked = asked or (pipe.poll() and _receive(pipe)[0] == "stop")
        return asked

    store = Store(settings.root, settings.set)
    observer = Observer(beat=beat, stop=stop)
    try:
        execute(
            spec,
            store,
            observer,
            changed_code=settings.changed_code,
            about=about,
        )
    except Busy:
        _send(pipe, "busy", spec.run_id)
    except Interrupted:
        _send(pipe, "stopped", spec.run_id)
    except GdnbenchError as error:
        _send(pipe, "refused", spec.run_id, str(error))
    except Exception as error:
        log = store.run_folder(spec.run_id) / "error.txt"
        with contextlib.suppress(OSError):
            log.write_text(traceback.format_exc(), encoding="utf-8")
        _send(pipe, "failed", spec.run_id, f"{type(error).__name__}: {error} (details: {log})")
    else:
        _send(pipe, "done", spec.run_id)
    _give_back(spec.device)
    return not asked


def _give_back(device: str) -> None:
    """Free the memory of a run that is over, before the next one begins.

    A trainer and its CUDA graph refer to each other, and the graph's own memory goes back with the allocator's only.
    """
    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()


def _send(pipe: Connection, *message: Any) -> None:
    try:
        pipe.send(message)
    except OSError:
        os._exit(1)


def _receive(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, OSError):
        os._exit(1)
