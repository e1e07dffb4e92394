"""Which measurements a run of ``gdnbench bench decode`` consists of: models and places, from ``models.yaml``."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gdnbench.configuration import from_mapping, read_yaml
from gdnbench.errors import GdnbenchError, unknown
from gdnbench.measure import wanted
from gdnbench.measure.decoding.case import DecodeCase
from gdnbench.measure.decoding.peers import PEERS
from gdnbench.measure.training.case import OURS
from gdnbench.models.config import ModelConfig
from gdnbench.models.decoder import on_meta

FILE = Path(__file__).with_name("models.yaml")
PEER_TOKENS, PEER_REPEATS = 32, 3  # peers that wait for the host at each token take seconds for these


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes that all models share."""

    width: int
    vocab_size: int


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Over what, and by how many tokens, our own engine is measured on a device; ``points``: all others, by size."""

    sizes: tuple[str, ...]
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    tokens: int
    repeats: int
    dtype: Literal["bfloat16", "float32"]
    points: Mapping[str, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, kw_only=True)
class Way:
    """How our own engine runs on a device; ``everywhere``: on the whole grid, else at the few points."""

    backend: str | Mapping[str, str]
    state_dtype: Literal["bfloat16", "float32"]
    everywhere: bool = True


@dataclass(frozen=True, kw_only=True)
class Form:
    """A model at one size: its depth, the width of its MLPs (None: by the ratio) and its mixers' options."""

    depth: int
    mlp_width: int | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model and who runs it: ways of our own engine, and peers that build a model of the same parameters.

    ``everywhere``: on the whole grid, else at the few points.
    """

    arch: str
    block: Literal["controlled", "native"] = "controlled"
    pattern: str = ""
    everywhere: bool = True
    impls: tuple[str, ...] = (OURS,)
    sizes: Mapping[str, Form] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Table:
    """The content of ``models.yaml``; ``grids`` are by device, ``ways`` by device and name."""

    sizes: Mapping[str, Size]
    grids: Mapping[str, Grid]
    ways: Mapping[str, Mapping[str, Way]]
    models: tuple[Entry, ...]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a command asks for; what is empty or None is the device's default, or the table's.

    Attributes:
        device: ``cuda`` or ``cpu``.
        archs: architectures.
        sizes: names of sizes.
        impls: who runs them.
        batches: batches; given, they hold for peers, too.
        contexts: contexts, likewise.
        tokens: timed tokens of a stretch.
        repeats: timed stretches.
        width: width of all models, in place of their size's.
        depth: depth of all models, likewise.
        vocab_size: number of tokens of all models, likewise.
        backend: backends, in place of those of our own ways.
        seed: seeds weights and prompts.
    """

    device: str
    archs: Sequence[str] = ()
    sizes: Sequence[str] = ()
    impls: Sequence[str] = ()
    batches: Sequence[int] = ()
    contexts: Sequence[int] = ()
    tokens: int | None = None
    repeats: int | None = None
    width: int | None = None
    depth: int | None = None
    vocab_size: int | None = None
    backend: str | Mapping[str, str] | None = None
    seed: int = 0


def table() -> Table:
    """Return what ``models.yaml`` says."""
    return from_mapping(Table, read_yaml(FILE), FILE.name)


def cases(asked: Asked) -> list[DecodeCase]:
    """Return the measurements that are asked for: by size, the table's order, ours before its peers, batch, context.

    Raises:
        GdnbenchError: a name does not exist, a number is not above 0, or a width does not fit.
    """
    _check(asked)
    content = table()
    ways, named = content.ways[asked.device], [name for some in content.ways.values() for name in some]
    found: list[DecodeCase] = []
    for size in asked.sizes or content.grids[asked.device].sizes:
        if size not in content.sizes:
            raise unknown("--size", size, content.sizes)
        for entry in wanted.entries(content.models, asked.archs, lambda arch: Entry(arch=arch)):
            known = [*PEERS, *named]
            for impl in wanted.impls(entry, asked.impls, able=[*PEERS, *ways], known=known):
                found += _of_impl(asked, content, entry, size, impl)
    if not found:
        raise GdnbenchError(f"--impl {','.join(asked.impls)}: none of them runs {', '.join(asked.archs)}")
    return found


def _check(asked: Asked) -> None:
    wanted.check_positive({name: getattr(asked, name) for name in ("tokens", "repeats", "width", "depth")})
    wanted.check_positive({"vocab": asked.vocab_size})
    for name, numbers in (("batches", asked.batches), ("contexts", asked.contexts)):
        for number in numbers:
            wanted.check_positive({name: number})


def _of_impl(asked: Asked, content: Table, entry: Entry, size: str, impl: str) -> list[DecodeCase]:
    way, grid = content.ways[asked.device].get(impl), content.grids[asked.device]
    model = _model(asked, content.sizes[size], entry, size, way)
    on_meta(model)  # tells now which width would fit, if this does not
    tokens, repeats = (grid.tokens, grid.repeats) if way else (PEER_TOKENS, PEER_REPEATS)
    case = DecodeCase(
        impl=impl,
        size=size,
        model=model,
        batch=1,
        context=1,
        dtype=grid.dtype,
        # A peer's floor is that of the same work: states as our default way keeps them.
        state_dtype=(way or content.ways[asked.device][OURS]).state_dtype,
        device=asked.device,
        tokens=asked.tokens or tokens,
        repeats=asked.repeats or repeats,
        seed=asked.seed,
    )
    whole = entry.everywhere and way is not None and way.everywhere
    places = _places(asked, grid, None if whole else grid.points.get(size, ()))
    return [dataclasses.replace(case, batch=batch, context=context) for batch, context in places]


def _places(asked: Asked, grid: Grid, points: Sequence[tuple[int, int]] | None) -> list[tuple[int, int]]:
    """Return batches and contexts: those asked for, for the others those of the points, or (None) of the whole grid."""
    if points is not None and not (asked.batches or asked.contexts):
        return list(points)
    batches = asked.batches or (grid.batches if points is None else dict.fromkeys(batch for batch, _ in points))
    contexts = asked.contexts or (grid.contexts if points is None else dict.fromkeys(context for _, context in points))
    return [(batch, context) for batch in batches for context in contexts]


def _model(asked: Asked, size: Size, entry: Entry, name: str, way: Way | None) -> ModelConfig:
    """Return a model's configuration; sizes that the command gives leave MLPs to their ratio."""
    form = entry.sizes.get(name, Form(depth=12))
    width = asked.width or size.width
    return ModelConfig(
        arch=entry.arch,
        width=width,
        base_width=width,
        depth=asked.depth or form.depth,
        vocab_size=asked.vocab_size or size.vocab_size,
        block=entry.block,
        pattern=entry.pattern,
        mlp_width=None if asked.width else form.mlp_width,
        options=form.options,
        **({} if way is None else {"backend": asked.backend or way.backend}),  # type: ignore[arg-type]
    )
