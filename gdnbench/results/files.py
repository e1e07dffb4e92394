"""Writing files so that a reader sees all of a content or none of it."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from gdnbench.errors import GdnbenchError


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call ``write`` with a file that becomes ``path`` once it is complete and on the disk.

    Raises:
        GdnbenchError: the disk is full or the folder is not writable; what was there before stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def storage_error(path: Path, error: OSError) -> GdnbenchError:
    """Return the one-line error of a write that failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return GdnbenchError(f"{path}: no space left on the device; free some and run the same command again")
    return GdnbenchError(f"{path}: cannot write: {error.strerror or error}")


def set_aside(path: Path) -> Path:
    """Rename a damaged file so that it is kept but no longer read; return its new name."""
    number = 0
    while (aside := path.with_name(f"{path.name}.corrupt{number or ''}")).exists():
        number += 1
    path.replace(aside)
    return aside
