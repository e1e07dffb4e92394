"""Which models, and whose implementations of them, a bench of speeds is asked for, of those that its table lists."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from gdnbench_kernels import backends

from gdnbench.errors import GdnbenchError, unknown
from gdnbench.models import ModelConfig, registry
from gdnbench.models.decoder import on_meta

# How far above a width that does not fit others are tried, and in which steps.
REACH, STEP = 256, 8


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


class Placed(Protocol):
    """A measurement, of a model."""

    @property
    def model(self) -> ModelConfig:
        """The model."""
        ...


Entry = TypeVar("Entry", bound=Listed)
Case = TypeVar("Case", bound=Placed)


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


def fitting(make: Callable[[int | None], list[Case]], width: int | None) -> list[Case]:
    """Return the cases that ``make`` returns for a width of all models, which is a command's option or None.

    Raises:
        GdnbenchError: as ``make`` does; where only the width is at fault, with the nearest at which all models build;
            no operation of a model has a backend of the name that it is given.
    """
    try:
        cases = make(width)
    except GdnbenchError as error:
        near = _widths(make, width) if width is not None and width > 0 and _makes(make, None) else []
        if not near:
            raise
        would_do = f"{' or '.join(map(str, near))} would do"
        raise GdnbenchError(f"--width {width}: not all models asked for can have it; {would_do}") from error
    for index, case in enumerate(cases):
        if all(case.model != other.model for other in cases[:index]):
            _check_backends(case.model)
    return cases


def _widths(make: Callable[[int | None], object], width: int) -> list[int]:
    """Return the nearest widths below and above that ``make`` takes."""
    below = (width - 1) // STEP * STEP
    ways = (range(below, 0, -STEP), range(below + STEP, width + REACH, STEP))
    found = (next((near for near in way if _makes(make, near)), None) for way in ways)
    return [near for near in found if near is not None]


def _makes(make: Callable[[int | None], object], width: int | None) -> bool:
    try:
        make(width)
    except GdnbenchError:
        return False
    return True


def _check_backends(model: ModelConfig) -> None:
    chosen = on_meta(model).backends()
    known = [name for operation in chosen for name in backends.names(operation)]
    for impl in chosen.values():
        if impl not in known:
            raise unknown("backend", impl, known)


def check_positive(given: dict[str, int | None]) -> None:
    """Raise where an option, by name, is given and not above 0."""
    for name, number in given.items():
        if number is not None and number < 1:
            raise GdnbenchError(f"--{name} {number}: expected a whole number above 0")
