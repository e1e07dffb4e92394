"""Checkpoints: everything a run needs to go on, written atomically, checked when read."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from gdnbench.files import atomic_file

MAGIC = b"gdnbench-checkpoint-1\n"


class Corrupt(Exception):
    """A checkpoint's content does not fit its checksum."""


def save(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain data with a checksum; an older checkpoint stays until the new one is complete."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    body = buffer.getbuffer()
    head = MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n"
    with atomic_file(path) as file:
        file.write(head)
        file.write(body)


def load(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint; None where there is none. Raise `Corrupt` if it is damaged. No code in it is run."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    head, body = content[: len(MAGIC) + 65], content[len(MAGIC) + 65 :]
    if head != MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n":
        raise Corrupt(f"{path.name}: its checksum does not fit")
    try:
        loaded: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise Corrupt(f"{path.name}: {type(error).__name__}") from error
    return loaded
