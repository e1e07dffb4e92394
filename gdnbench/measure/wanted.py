"""Which models, and whose implementations of them, a bench of speeds is asked for, of those that its table lists."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from gdnbench.errors import GdnbenchError, unknown
from gdnbench.models import registry


class Listed(Protocol):
    """An entry of a table: a model and the names of those who run it, ours first."""

    @property
    def arch(self) -> str:
        """Name of the architecture."""
        ...

    @property
    def impls(self) -> tuple[str, ...]:
        """Who runs it."""
        ...


Entry = TypeVar("Entry", bound=Listed)


def entries(listed: Sequence[Entry], archs: Sequence[str], own: Callable[[str], Entry]) -> list[Entry]:
    """Return the entries of these architectures, or all; ``own`` makes one for a mixer that only the registry knows.

    Raises:
        GdnbenchError: there is no such architecture; the message names the nearest.
    """
    known = {entry.arch for entry in listed}
    for arch in archs:
        if arch not in known and arch not in registry.names():
            raise unknown("architecture", arch, [*known, *registry.names()])
    added = [own(arch) for arch in dict.fromkeys(archs) if arch not in known]
    return [entry for entry in listed if not archs or entry.arch in archs] + added


def impls(entry: Listed, wanted: Sequence[str], *, able: Collection[str], known: Collection[str]) -> list[str]:
    """Return who of an entry's runs it on a device (``able``), of those that are wanted, or all.

    Raises:
        GdnbenchError: a wanted name is not ``known``; the message names the nearest.
    """
    for impl in wanted:
        if impl not in known:
            raise unknown("--impl", impl, set(known))
    return [impl for impl in entry.impls if impl in able and (not wanted or impl in wanted)]


def check_positive(given: dict[str, int | None]) -> None:
    """Raise where an option, by name, is given and not above 0."""
    for name, number in given.items():
        if number is not None and number < 1:
            raise GdnbenchError(f"--{name} {number}: expected a whole number above 0")
