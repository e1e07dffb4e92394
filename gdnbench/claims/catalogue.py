"""The catalogue of claims: what each source says, where, and its figures as data; none of them is ours."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

from gdnbench.configuration import from_mapping, read_yaml
from gdnbench.errors import GdnbenchError, unknown

Value = bool | float | tuple[float, ...] | str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure as a source prints it.

    Attributes:
        value: a number, several, or yes and no.
        unit: unit of the number.
        comparison: ``at most`` or ``at least`` where the source gives a limit.
        over: what several values belong to: ``width``, ``parameters`` or ``range`` (lowest and highest).
        at: the widths or sizes of several values.
    """

    value: Value
    unit: str = ""
    comparison: Literal["", "at most", "at least"] = ""
    over: str = ""
    at: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.value, tuple) and len(self.value) != len(self.at):
            raise GdnbenchError(f"claims: {len(self.value)} values are given at {len(self.at)} places")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where claims come from, what a reader should know of it, and the budget that its claims are made at.

    A budget is tokens of a training run, parameters and width of the largest model: ``tokens``, ``params``, ``width``.
    """

    title: str
    note: str = ""
    budget: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim under test.

    Attributes:
        id: ``A…`` from the article, ``B…`` from the paper.
        source: ``article`` or ``paper``.
        place: where in the source.
        statement: what it says, in our words.
        model: the model that the source's row is about.
        arm: this suite's arm nearest to it, where no card names another.
        arch: architecture of an inference row.
        claimed: the source's figures, by name.
        budget: what differs from the source's budget.
    """

    id: str
    source: Literal["article", "paper"]
    place: str
    statement: str
    model: str = ""
    arm: str = ""
    arch: str = ""
    claimed: Mapping[str, Figure] = field(default_factory=dict)
    budget: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All claims, in the order of the ledger, and their sources."""

    sources: Mapping[str, Source]
    claims: tuple[Claim, ...]

    def __post_init__(self) -> None:
        ids = [claim.id for claim in self.claims]
        if twice := sorted({id_ for id_ in ids if ids.count(id_) > 1}):
            raise GdnbenchError(f"claims: {', '.join(twice)} given more than once")

    def budget(self, claim: str) -> dict[str, float]:
        """Return the budget that a claim is made at."""
        found = self.find(claim)
        return {**self.sources[found.source].budget, **found.budget}

    def find(self, claim: str) -> Claim:
        """Return the claim of an id; an unknown one raises with the nearest ids."""
        for candidate in self.claims:
            if candidate.id == claim:
                return candidate
        raise unknown("claim", claim, [candidate.id for candidate in self.claims])


def read_catalogue(path: Path) -> Catalogue:
    """Read a file of claims strictly: an unknown or missing field raises with its place."""
    return from_mapping(Catalogue, read_yaml(path), path.name)


@functools.cache
def catalogue() -> Catalogue:
    """Return the claims of the article and of arXiv 2606.04048 (Liu, Gu), as shipped with the package."""
    with resources.as_file(resources.files("gdnbench.claims") / "claims.yaml") as path:
        return read_catalogue(path)
