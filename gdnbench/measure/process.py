"""Asking a question of a process of its own: what it allocates, compiles and takes to start is its own, too."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Where Triton, PyTorch, TileLang and the driver keep what they have compiled.
CACHES = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TILELANG_CACHE_DIR", "CUDA_CACHE_PATH")


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
    """Run ``module`` with the question as JSON and return the JSON of the last line that it writes.

    Args:
        module: its name; its path of modules is this process's.
        question: its only argument.
        limit_s: seconds after which it is ended.
        variables: of its environment, beside this process's.
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)
    started = time.time()
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, json.dumps(question)],
            env={**os.environ, **variables, "PYTHONPATH": path}, capture_output=True, text=True, timeout=limit_s,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Answer(started=started, value=None, reason=f"not finished after {limit_s:.0f} s", timed_out=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return Answer(started=started, value=None, reason=lines[-1] if lines else f"exit code {done.returncode}")
    return Answer(started=started, value=json.loads(done.stdout.splitlines()[-1]))


def say(answer: Mapping[str, Any]) -> None:
    """Answer the process that asked."""
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
