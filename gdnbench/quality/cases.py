"""What is checked, from ``cases.yaml``: runs of a few steps whose numbers are known, by name."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdnbench.configuration import from_mapping, read_yaml
from gdnbench.environment import PACKAGE
from gdnbench.models import registry
from gdnbench.models.parametrization import table_names
from gdnbench.plan.sections import merged
from gdnbench.plan.spec import RunSpec

FILE = Path(__file__).with_name("cases.yaml")
ROOT = PACKAGE.parent
EXAMPLES = ROOT / "examples"


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """Models under every table, ``variants`` and ``examples`` under ``variant_tables``, each by every optimizer."""

    shared: Mapping[str, Any]
    optimizers: tuple[Mapping[str, Any], ...]
    models: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, Mapping[str, Any]]
    examples: tuple[str, ...]
    variant_tables: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """Whole runs: fields of `RunSpec` by name, over shared ones."""

    shared: Mapping[str, Any]
    runs: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Document:
    """The content of ``cases.yaml``."""

    fingerprints: Fingerprints
    trainings: Trainings


def fingerprints() -> dict[str, RunSpec]:
    """Return the runs that give a fingerprint, by name: model, table, optimizer."""
    content = _document().fingerprints
    chosen = [*itertools.product(content.models.items(), table_names())]
    variants = dict(content.variants) | {str(path.name): {"arch": registry.add_file(path)} for path in examples()}
    chosen += itertools.product(variants.items(), content.variant_tables)
    found = {}
    for ((name, model), table), optimizer in itertools.product(chosen, content.optimizers):
        label = f"{name}, {table}, {optimizer['name']}"
        own = {"model": model, "parametrization": {"table": table}, "optimizer": optimizer}
        found[label] = _spec(label, content.shared, own)
    return found


def examples() -> list[Path]:
    """Return the files of the examples' mixers; none where the package lies outside a checkout."""
    return [ROOT / name for name in _document().fingerprints.examples] if EXAMPLES.is_dir() else []


def elsewhere(case: str) -> bool:
    """Whether a stored case is of an example that is not here."""
    return ".py, " in case and not EXAMPLES.is_dir()


def trainings() -> dict[str, RunSpec]:
    """Return the short trainings by name."""
    content = _document().trainings
    return {name: _spec(name, content.shared, own) for name, own in content.runs.items()}


def _document() -> Document:
    return from_mapping(Document, read_yaml(FILE), FILE.name)


def _spec(name: str, shared: Mapping[str, Any], own: Mapping[str, Any]) -> RunSpec:
    values = {"experiment": "quality", "arm": name, **merged(shared, own)}
    return from_mapping(RunSpec, values, name)
