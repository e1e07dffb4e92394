"""What a backend on a GPU needs from the machine: a library of some age, and a GPU of some age."""

import importlib.metadata
import re

import torch


def version(distribution: str) -> str | None:
    """Return the installed version of ``distribution``, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def missing(distribution: str, *, oldest: str, capability: tuple[int, int]) -> str | None:
    """Return which of a library, its oldest version that will do and a GPU's compute capability is missing, or None."""
    found = version(distribution)
    if found is None:
        return f"{distribution} is not installed"
    if older(found, oldest):
        return f"{distribution} {found} is older than {oldest}"
    if not torch.cuda.is_available():
        return "there is no NVIDIA GPU that torch can use"
    actual = torch.cuda.get_device_capability()
    if actual < capability:
        return f"the GPU is sm_{actual[0]}{actual[1]}, older than sm_{capability[0]}{capability[1]}"
    return None


def older(one: str, other: str) -> bool:
    """Return whether version ``one`` is older than ``other`` by release numbers; 0.7.2.post1 is as old as 0.7.2."""
    return _numbers(one) < _numbers(other)


def _numbers(text: str) -> tuple[int, ...]:
    """Return the release segment of a version: (0, 7, 2) for 0.7.2.post1."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])
