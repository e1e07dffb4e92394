"""Which measurements a run of ``gdnbench bench train`` consists of: models and their peers, from ``models.yaml``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gdnbench.configuration import from_mapping, read_yaml
from gdnbench.errors import GdnbenchError
from gdnbench.measure import wanted
from gdnbench.measure.training.case import OURS, TrainingCase
from gdnbench.measure.training.peers import PEERS
from gdnbench.models.config import ModelConfig
from gdnbench.models.decoder import on_meta

FILE = Path(__file__).with_name("models.yaml")
BATCH = {"cuda": 32, "cpu": 2}
SEQ_LEN = {"cuda": 2048, "cpu": 64}
STEPS = {"cuda": 40, "cpu": 3}


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes that all models share; heads and MLPs follow from them."""

    width: int
    depth: int
    vocab_size: int


@dataclass(frozen=True, kw_only=True)
class Way:
    """How our own step runs on a device: fields of `ModelConfig` and of `gdnbench.plan.spec.RunSpec`."""

    backend: str | Mapping[str, str]
    execution: Mapping[str, Any] = field(default_factory=dict)
    residual: str = "float32"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model and who trains it: ways of our own step, and peers that build a model of the same parameters."""

    arch: str
    block: Literal["controlled", "native"] = "controlled"
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pattern: str = ""
    impls: tuple[str, ...] = (OURS,)


@dataclass(frozen=True, kw_only=True)
class Table:
    """The content of ``models.yaml``; ``ways`` are by device and name."""

    size: Size
    ways: Mapping[str, Mapping[str, Way]]
    models: tuple[Entry, ...]


def table() -> Table:
    """Return what ``models.yaml`` says."""
    return from_mapping(Table, read_yaml(FILE), FILE.name)


def cases(
    *,
    device: str,
    archs: Sequence[str] = (),
    impls: Sequence[str] = (),
    batch: int | None = None,
    seq_len: int | None = None,
    steps: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    vocab_size: int | None = None,
    backend: str | Mapping[str, str] | None = None,
    warm: bool = False,
    seed: int = 0,
) -> list[TrainingCase]:
    """Return the measurements that are asked for, in the table's order, ours before its peers.

    What is empty or None is the device's default, or the table's.

    Raises:
        GdnbenchError: a name does not exist, a number is not above 0, or a width does not fit.
    """
    wanted.check_positive(
        {"batch": batch, "seq-len": seq_len, "steps": steps, "width": width, "depth": depth, "vocab": vocab_size}
    )
    content = table()
    size = Size(
        width=width or content.size.width,
        depth=depth or content.size.depth,
        vocab_size=vocab_size or content.size.vocab_size,
    )
    ways, found = content.ways[device], []
    known = [*PEERS, *(name for named in content.ways.values() for name in named)]
    for entry in wanted.entries(content.models, archs, lambda arch: Entry(arch=arch)):
        for impl in wanted.impls(entry, impls, able=[*PEERS, *ways], known=known):
            way = ways.get(impl)
            model = _model(entry, size, None if way is None else backend or way.backend)
            on_meta(model)  # tells now which width would fit, if this does not
            found.append(
                TrainingCase(
                    impl=impl,
                    model=model,
                    batch=batch or BATCH[device],
                    seq_len=seq_len or SEQ_LEN[device],
                    steps=steps or STEPS[device],
                    dtype="bfloat16" if device == "cuda" else "float32",
                    device=device,
                    seed=seed,
                    caches="warm" if warm else "cold",
                    settings={} if way is None else {"execution": way.execution, "residual": way.residual},
                )
            )
    if not found:
        raise GdnbenchError(f"--impl {','.join(impls)}: none of them trains {', '.join(archs)}")
    return found


def _model(entry: Entry, size: Size, backend: str | Mapping[str, str] | None) -> ModelConfig:
    return ModelConfig(
        arch=entry.arch,
        width=size.width,
        base_width=size.width,
        depth=size.depth,
        vocab_size=size.vocab_size,
        block=entry.block,
        pattern=entry.pattern,
        options=entry.options,
        **({} if backend is None else {"backend": backend}),  # type: ignore[arg-type]
    )
