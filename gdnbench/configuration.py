"""Configurations are frozen dataclasses, loaded strictly from YAML and identified by their canonical JSON."""

import dataclasses
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from gdnbench.errors import GdnbenchError, nearest

T = TypeVar("T")
# Metadata of a field that says how something is computed, not what: it is no part of an id.
NO_IDENTITY = {"identity": "never"}
# Metadata of a field that was added after ids had been given out: at its default it is no part of an id.
LATER = {"identity": "changed"}
_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping; raise `GdnbenchError` naming the file and line otherwise."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GdnbenchError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GdnbenchError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise GdnbenchError(f"{path}: expected a mapping at the top level, found {type(content).__name__}")
    return content


def read_json(path: Path) -> Any:
    """Read a JSON file that a command wrote beside a set's runs; raise `GdnbenchError` naming the file and place."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GdnbenchError(
            f"{path}: not readable as JSON: {error}; remove it, and the command that stored the set writes it anew"
        ) from error


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass ``cls`` from ``values``; an unknown, missing or ill-typed field raises with its path."""
    if not isinstance(values, Mapping):
        raise GdnbenchError(f"{where or cls.__name__}: expected a mapping, found {values!r}")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            close = nearest(str(key), fields)
            hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(fields))}"
            raise GdnbenchError(f"{_join(where, key)}: unknown key; {hint}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise GdnbenchError(f"{_join(where, name)}: required, but missing")
    return cls(**{key: _convert(hints[key], value, _join(where, key)) for key, value in values.items()})


def to_mapping(config: Any, *, identity: bool = False) -> Any:
    """Return a dataclass, and all inside it, as plain dictionaries, lists and scalars.

    With ``identity``, only what an id is made from: without fields marked `NO_IDENTITY`, and without those marked
    `LATER` where they have their default.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        fields = [f for f in dataclasses.fields(config) if not identity or _identifies(f, getattr(config, f.name))]
        return {field.name: to_mapping(getattr(config, field.name), identity=identity) for field in fields}
    if isinstance(config, Mapping):
        return {key: to_mapping(value, identity=identity) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_mapping(value, identity=identity) for value in config]
    return config


def _identifies(field: dataclasses.Field[Any], value: Any) -> bool:
    mark = field.metadata.get("identity")
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return mark is None or (mark == "changed" and value != default)


def canonical_json(config: Any) -> str:
    """Return one JSON text for equal configurations: sorted keys, no spaces, no NaN."""
    return json.dumps(to_mapping(config), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(config: Any) -> str:
    """Return the SHA-256 of the canonical JSON of what identifies ``config``, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(to_mapping(config, identity=True)).encode()).hexdigest()


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Check ``value`` against the type ``hint``, building nested dataclasses and tuples."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return _convert_union(arguments, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            close = nearest(str(value), map(str, arguments))
            hint_text = f"did you mean {' or '.join(close)}?" if close else f"one of {', '.join(map(str, arguments))}"
            raise GdnbenchError(f"{where}: {value!r} is not a valid choice; {hint_text}")
        return value
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_mapping(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        return _convert_mapping(arguments or (str, Any), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise GdnbenchError(f"{where}: expected a finite number, found {value}")
    if hint is float and isinstance(value, str) and _FLOAT.fullmatch(value):
        raise GdnbenchError(f"{where}: YAML reads {value} as text; write {float(value):.1e} with a point")
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise GdnbenchError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value


def _convert_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    problems = []
    for hint in arguments:
        if hint is type(None):
            continue
        try:
            return _convert(hint, value, where)
        except GdnbenchError as error:
            problems.append(str(error))
    raise GdnbenchError(problems[0] if len(problems) == 1 else f"{where}: {value!r} is of no accepted type")


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise GdnbenchError(f"{where}: expected a list, found {value!r}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_convert(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if len(arguments) != len(value):
        raise GdnbenchError(f"{where}: expected a list of {len(arguments)}, found {len(value)}")
    return tuple(_convert(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(zip(arguments, value)))


def _convert_mapping(arguments: tuple[Any, ...], value: Any, where: str) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise GdnbenchError(f"{where}: expected a mapping, found {value!r}")
    key_hint, value_hint = arguments
    return {
        _convert(key_hint, key, f"{where} key"): _convert(value_hint, item, _join(where, key))
        for key, item in value.items()
    }
