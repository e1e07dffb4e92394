"""Whole models that are timed in both trees, from ``models.yaml``: a training step, and a generated token."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from gdnbench.configuration import from_mapping, read_yaml, to_mapping

FILE = Path(__file__).with_name("models.yaml")


@dataclass(frozen=True, kw_only=True)
class ModelCase:
    """One timing.

    Attributes:
        arch: architecture.
        size: name of its size; of generation, one of `gdnbench.measure.decoding`.
        block: ``controlled`` or ``native``.
        batch: sequences of a step, or rows.
        length: tokens of a sequence, or of a prompt.
        width: width; None: the size's.
        depth: depth, likewise.
        vocab_size: number of tokens, likewise.
        tokens: of generation: tokens of a sample.
        part: ``training`` or ``decode``.
        device: ``cuda`` or ``cpu``.
    """

    HEAD: ClassVar[tuple[str, ...]] = ("part", "model", "size", "batch x length")
    UNIT: ClassVar[str] = "tokens/s"

    arch: str
    size: str
    block: Literal["controlled", "native"] = "controlled"
    batch: int
    length: int
    width: int | None = None
    depth: int | None = None
    vocab_size: int | None = None
    tokens: int = 0
    part: Literal["training", "decode"] = "training"
    device: str = "cuda"

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the case as the first cells of a line."""
        return self.part, f"{self.arch} ({self.block})", self.size, f"{self.batch} x {self.length}"

    @property
    def message(self) -> dict[str, Any]:
        """Return what a worker is asked, as plain data: its classes are another tree's."""
        found: dict[str, Any] = to_mapping(self)
        return found

    def shown(self, ms: float) -> str:
        """Return what a time means: tokens per second."""
        count = self.batch * (self.length if self.part == "training" else 1)
        return f"{1e3 * count / ms:,.0f}"


@dataclass(frozen=True, kw_only=True)
class Models:
    """What is timed on a device, by part."""

    training: tuple[ModelCase, ...]
    decode: tuple[ModelCase, ...]


@dataclass(frozen=True, kw_only=True)
class Document:
    """The content of ``models.yaml``."""

    cuda: Models
    cpu: Models


def model_cases(device: str, parts: Sequence[str]) -> list[ModelCase]:
    """Return the cases of the parts that are asked for on a device."""
    models: Mapping[str, Models] = vars(from_mapping(Document, read_yaml(FILE), FILE.name))
    return [
        dataclasses.replace(case, part=part, device=device)
        for part in ("training", "decode")
        if part in parts
        for case in getattr(models[device], part)
    ]
