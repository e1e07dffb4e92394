"""States of rows in a file: what the layers carry, the tokens so far, and which model they belong to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gdnbench import checked_file
from gdnbench.configuration import to_mapping
from gdnbench.errors import GdnbenchError
from gdnbench.models import ModelConfig
from gdnbench.version import __version__

MAGIC = b"gdnbench-state-1\n"
# What runs a model, not what it is.
NO_PART = ("backend",)


def write(path: Path, config: ModelConfig, model_id: str, rows: list[dict[str, Any]]) -> None:
    """Write rows with the header that `read` compares."""
    header = {"gdnbench": __version__, "model_id": model_id, "config": _identity(config)}
    checked_file.save(path, {"header": header, "rows": rows}, magic=MAGIC)


def read(path: Path, config: ModelConfig, model_id: str) -> list[dict[str, Any]]:
    """Return the rows of a file; raise unless a model of this configuration, and of this name where both have one,
    wrote it."""
    try:
        found = checked_file.load(path, magic=MAGIC)
    except (checked_file.Corrupt, OSError) as problem:
        raise GdnbenchError(
            f"{path}: no state that this version reads, or damaged ({problem}); save it again"
        ) from problem
    if found is None:
        raise GdnbenchError(f"{path}: no such file")
    header, own = found["header"], _identity(config)
    other = header["config"]
    for name in ("arch", *sorted(own.keys() | other.keys())):
        if own.get(name) != other.get(name):
            raise GdnbenchError(f"{path}: of a model with {name} {other.get(name)!r}; this one has {own.get(name)!r}")
    if model_id and header["model_id"] and model_id != header["model_id"]:
        raise GdnbenchError(f"{path}: of {header['model_id']}; this is {model_id}, whose weights are others")
    rows: list[dict[str, Any]] = found["rows"]
    return rows


def check_shapes(path: Path, saved: list[Any], expected: list[Any]) -> None:
    """Raise unless a row's state has the tensors of another one; lengths may differ where a state grows."""
    for block, (one, other) in enumerate(zip(saved, expected, strict=True)):
        for layer in other:
            names, known = _shapes(one[layer]), _shapes(other[layer])
            if names != known:
                raise GdnbenchError(f"{path}: block {block}, {layer}: its state is {names}; this model's is {known}")


def _shapes(state: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Return the shape of every tensor behind its first two dimensions, of which one may be a length."""
    return {name: list(value.shape[2:]) for name, value in sorted(state.items())}


def _identity(config: ModelConfig) -> dict[str, Any]:
    found: dict[str, Any] = to_mapping(config)
    return {name: value for name, value in found.items() if name not in NO_PART}
