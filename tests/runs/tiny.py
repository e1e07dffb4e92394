"""A study small enough to run in seconds, and the command line as a process of its own."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from gdnbench.configuration import from_mapping
from gdnbench.plan.expand import expand
from gdnbench.plan.spec import RunSpec
from gdnbench.presets import Preset
from gdnbench.results import Store

ROOT = Path(__file__).resolve().parents[2]

TINY: dict[str, Any] = {
    "name": "tiny",
    "title": "Tiny",
    "about": "One block, a few steps.",
    "max_epochs": None,
    "model": {
        "base_width": 16,
        "depth": 1,
        "mlp_ratio": 2.0,
        "init_std": 0.04,
        "embedding_std": 0.1,
        "options": {
            "transformer": {"heads": 2},
            "gdn": {"heads": 2},
            "mamba2": {"state_dim": 8, "head_dim": 8},
            "rwkv7": {"head_dim": 8, "decay_rank": 4, "rate_rank": 4, "value_rank": 4, "gate_rank": 4},
        },
    },
    "optimizer": {"weight_decay": 0.0},
    "schedule": {"warmup_steps": 2},
    "training": {"steps": 12, "batch_size": 2, "seq_len": 16, "log_every": 2, "checkpoint_every": 4},
    "evaluation": {"sequences": 4},
}


def sweep(**changes: Any) -> dict[str, Any]:
    """One run of a Transformer, unless told otherwise."""
    arm = {"name": "T", "arch": "transformer"}
    return {"name": "sweep", "kind": "lr_sweep", "widths": [16], "log2_lrs": [-7], "arms": [arm], **changes}


def study(*experiments: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The tiny preset's content with fields replaced; sections that are mappings are merged."""
    content = {**TINY, "experiments": list(experiments) or [sweep()]}
    for key, value in changes.items():
        old = content.get(key)
        content[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return content


def write_study(path: Path, *experiments: dict[str, Any], **changes: Any) -> Path:
    """Write the tiny preset as a file."""
    path.write_text(yaml.safe_dump(study(*experiments, **changes), allow_unicode=True), encoding="utf-8")
    return path


WORDS = ("to", "be", "or", "not", "that", "is", "the", "question", "whether")


def make_books(folder: Path) -> str:
    """Write a text folder of a few kB and return the corpus's name."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    for split, count in (("train", 60), ("valid", 12), ("test", 12)):
        texts = (" ".join(rng.choices(WORDS, k=30)) for _ in range(count))
        (folder / f"{split}.txt").write_text("\n\n".join(texts), encoding="utf-8")
    return f"text:{folder}"


def start(*arguments: object, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """Start ``gdnbench`` as the leader of a process group of its own, as a terminal would."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "gdnbench", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Started in the background, the tests would hand down that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def gdnbench(
    *arguments: object, cwd: Path, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``gdnbench`` to its end; kill all of it if it hangs."""
    process = start(*arguments, cwd=cwd, **environment)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_group(process)
        out, err = process.communicate()
        raise AssertionError(f"hung: {arguments}\n{out}\n{err}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def kill_group(process: subprocess.Popen[str]) -> None:
    """``kill -9`` of a command with all its workers."""
    os.killpg(process.pid, signal.SIGKILL)


def specs(corpus: str, *experiments: dict[str, Any], **changes: Any) -> tuple[RunSpec, ...]:
    """The runs of the tiny preset that are known without losses."""
    return expand(from_mapping(Preset, study(*experiments, corpus=corpus, **changes), "tiny"), {}).runs


def numbers(store: Store, run_id: str) -> dict[str, Any]:
    """All of a stored run that must not depend on interruptions: everything but times, memory and environment."""
    record = store.read(run_id)
    assert record is not None, f"{run_id} is not stored"
    untimed = {"tokens_per_s", "peak_gib", "beside_s"}
    return {
        "outcome": record.outcome,
        "spec": record.spec,
        "data": record.data,
        "source_digest": record.source_digest,
        "metrics": {name: entry for name, entry in record.metrics.items() if name not in untimed},
        "rows": [{key: value for key, value in row.items() if key not in untimed} for row in store.rows(run_id)],
    }


def leftovers(folder: Path) -> list[Path]:
    """Half-written files."""
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


class Pipe:
    """A worker's pipe in its own process; nobody asks it to stop."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def send(self, message: Any) -> None:
        self.said.append(message)

    def poll(self) -> bool:
        return False
