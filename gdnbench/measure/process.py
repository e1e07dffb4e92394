"""Asking a question of a process of its own: what it allocates, compiles and takes to start is its own, too."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Where Triton, PyTorch, TileLang and the driver keep what they have compiled.
CACHES = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TILELANG_CACHE_DIR", "CUDA_CACHE_PATH")
# Begins a line that is an answer, as in JSON text sequences (RFC 7464): libraries write lines of their own.
MARK = "\x1e"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a process said, in JSON; or why it said nothing. ``started`` is its start (`time.time`)."""

    started: float
    value: dict[str, Any] | None
    reason: str = ""
    timed_out: bool = False


@contextlib.contextmanager
def empty_caches() -> Iterator[dict[str, str]]:
    """Yield environment variables that put all compilation caches into an empty folder, which goes afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield {name: str(Path(folder) / name.lower()) for name in CACHES}


def ask(module: str, question: Mapping[str, Any], *, limit_s: float, variables: Mapping[str, str]) -> Answer:
    """Return the last of `answers`: what a process ends with, or why it said nothing."""
    return list(answers(module, question, limit_s=limit_s, variables=variables))[-1]


def answers(
    module: str, question: Mapping[str, Any], *, limit_s: float, variables: Mapping[str, str]
) -> Iterator[Answer]:
    """Run ``module`` with the question as JSON and yield each thing that it says when it is said.

    Args:
        module: its name; its path of modules is this process's.
        question: its only argument.
        limit_s: seconds after which it is ended.
        variables: of its environment, beside this process's.

    Yields:
        What was said; then, where it did not end well or said nothing, an answer without a value.
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)
    started, late, said = time.time(), threading.Event(), False
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(question)],
            env={**os.environ, **variables, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(limit_s, end)
        timer.start()
        try:
            for line in process.stdout or ():
                if line.startswith(MARK):
                    said = True
                    yield Answer(started=started, value=json.loads(line.removeprefix(MARK)))
            code = process.wait()
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        errors.seek(0)
        lines = errors.read().strip().splitlines()
    if late.is_set():
        yield Answer(started=started, value=None, reason=f"not finished after {limit_s:.0f} s", timed_out=True)
    elif code or not said:
        yield Answer(started=started, value=None, reason=lines[-1] if lines else f"exit code {code}")


def say(answer: Mapping[str, Any]) -> None:
    """Tell the process that asked something; it may be one thing of several."""
    sys.stdout.write(f"\n{MARK}{json.dumps(answer)}\n")
    sys.stdout.flush()
