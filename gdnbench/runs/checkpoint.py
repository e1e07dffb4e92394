"""Checkpoints: everything a run needs to go on, written atomically, checked when read."""

from pathlib import Path
from typing import Any

from gdnbench import checked_file
from gdnbench.checked_file import Corrupt

__all__ = ["Corrupt", "load", "save"]

MAGIC = b"gdnbench-checkpoint-1\n"


def save(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain data with a checksum; an older checkpoint stays until the new one is complete."""
    checked_file.save(path, content, magic=MAGIC)


def load(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint; None where there is none. Raise `Corrupt` if it is damaged. No code in it is run."""
    return checked_file.load(path, magic=MAGIC)
