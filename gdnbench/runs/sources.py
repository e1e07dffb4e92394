"""Which source files determine a run's numbers; a checkpoint is resumed under the same ones only."""

from functools import cache
from pathlib import Path

import gdnbench_kernels

from gdnbench.environment import PACKAGE, digest_of
from gdnbench.models import registry
from gdnbench.models.config import ModelConfig
from gdnbench.models.pattern import layer_mixers

SHARED = ("models", "data", "evaluate", "inference", "measure")
GRAPH = PACKAGE / "graph.py"
RUNS = ("train.py", "curve.py", "schedule.py", "loop.py", "beginning.py", "scores.py")
STEP = ("train.py", "curve.py", "schedule.py", "training_step.py")


def source_digest(model: ModelConfig) -> str:
    """Return the digest of the operations, the model code, the data and evaluation code, and the mixers used."""
    return _digest(tuple(sorted(set(layer_mixers(model)))))


@cache
def kernels_digest() -> str:
    """Return the digest of what determines a kernel's timing: the operations with their tables, and the bench."""
    return digest_of([Path(gdnbench_kernels.__file__).parent, PACKAGE / "measure" / "kernels"])


def training_digest(model: ModelConfig | None) -> str:
    """Return the digest of what determines a training speed: of our own step on ``model``, or None: of a peer's."""
    bench = PACKAGE / "measure" / "training"
    if model is None:
        return digest_of([bench])
    own = [PACKAGE / "models", PACKAGE / "data" / "batches.py", GRAPH, *(PACKAGE / "runs" / name for name in STEP)]
    mixers = sorted(set(layer_mixers(model)))
    kernels = Path(gdnbench_kernels.__file__).parent
    return digest_of([kernels, bench, *own, *(path for name in mixers for path in registry.source_files(name))])


def decoding_digest(model: ModelConfig | None) -> str:
    """Return the digest of what determines a speed of generation: of our own engine on ``model``, or None: a peer's."""
    bench = [PACKAGE / "measure" / folder for folder in ("decoding", "training")]
    if model is None:
        return digest_of(bench)
    own = [PACKAGE / "models", PACKAGE / "inference"]
    mixers = sorted(set(layer_mixers(model)))
    kernels = Path(gdnbench_kernels.__file__).parent
    return digest_of([kernels, *bench, *own, *(path for name in mixers for path in registry.source_files(name))])


@cache
def _digest(mixers: tuple[str, ...]) -> str:
    kernels = Path(gdnbench_kernels.__file__).parent
    own = [*(PACKAGE / folder for folder in SHARED), GRAPH] + [PACKAGE / "runs" / name for name in RUNS]
    return digest_of([kernels, *own, *(path for name in mixers for path in registry.source_files(name))])
