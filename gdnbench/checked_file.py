"""Tensors and plain data in one file, written atomically and with a checksum, read without running code."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from gdnbench.files import atomic_file


class Corrupt(Exception):
    """A file's content does not fit its checksum."""


def save(path: Path, content: dict[str, Any], *, magic: bytes) -> None:
    """Write ``content`` behind a first line ``magic``, which says what it is; an older file stays until then."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    body = buffer.getbuffer()
    head = magic + hashlib.sha256(body).hexdigest().encode() + b"\n"
    with atomic_file(path) as file:
        file.write(head)
        file.write(body)


def load(path: Path, *, magic: bytes) -> dict[str, Any] | None:
    """Read a file's content to the CPU; None where there is none. Raise `Corrupt` if it is damaged or another thing."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    head, body = content[: len(magic) + 65], content[len(magic) + 65 :]
    if head != magic + hashlib.sha256(body).hexdigest().encode() + b"\n":
        raise Corrupt(f"{path.name}: its checksum does not fit")
    try:
        loaded: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise Corrupt(f"{path.name}: {type(error).__name__}") from error
    return loaded
