"""Which models, and whose implementations of them, a bench of speeds is asked for, of those that its table lists."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from gdnbench_kernels import backends

from gdnbench.errors import GdnbenchError, unknown
from gdnbench.models import ModelConfig, registry
from gdnbench.models.decoder import on_meta

# How far above a width that does not fit others are tried.
REACH = 256


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


def check_models(models: Sequence[ModelConfig], *, width: int | None) -> None:
    """Raise where a model does not build, or where none of its operations has such a backend.

    Where a command's ``width`` is the reason, the message names the nearest at which all of them build.
    """
    different = [model for index, model in enumerate(models) if model not in models[:index]]
    for model in different:
        try:
            built = on_meta(model)
        except GdnbenchError as error:
            near = [] if width is None else _widths(different, width)
            if not near:
                raise
            fitting = f"{' or '.join(map(str, near))} would do for all models asked for"
            raise GdnbenchError(f"--width {width}: {model.arch} cannot have it; {fitting}") from error
        known = [name for operation in built.backends() for name in backends.names(operation)]
        for impl in built.backends().values():
            if impl not in known:
                raise unknown("backend", impl, known)


def _widths(models: Sequence[ModelConfig], width: int) -> list[int]:
    """Return the nearest widths below and above at which all models build."""
    ways = (range(width - 1, 0, -1), range(width + 1, width + REACH))
    found = (next((w for w in way if all(_builds(model, w) for model in models)), None) for way in ways)
    return [near for near in found if near is not None]


def _builds(model: ModelConfig, width: int) -> bool:
    try:
        on_meta(dataclasses.replace(model, width=width, base_width=width))
    except GdnbenchError:
        return False
    return True


def check_positive(given: dict[str, int | None]) -> None:
    """Raise where an option, by name, is given and not above 0."""
    for name, number in given.items():
        if number is not None and number < 1:
            raise GdnbenchError(f"--{name} {number}: expected a whole number above 0")
