"""Files that a reader sees whole or not at all, whatever happens to the writer."""

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gdnbench.errors import GdnbenchError

# A live writer touches its temporary file all the time; one this old was left by a process that was killed.
STALE_SECONDS = 24 * 3600


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file that becomes ``path`` when the block ends well, and vanishes when it does not.

    Two processes may write the same ``path`` at once: each has its own temporary file and the last rename wins.
    A failing disk or folder raises `GdnbenchError` naming ``path``; what was there before stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        # Gone when all went well; where the folder itself is at fault, that error is the one to report.
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))


def storage_error(path: Path, error: OSError) -> GdnbenchError:
    """Return the one-line error of a write that failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return GdnbenchError(f"{path}: no space left on device; free some and run the same command again")
    return GdnbenchError(f"{path}: cannot be written: {error.strerror or error}")


def set_aside(path: Path) -> Path:
    """Rename a damaged file so that it is kept but no longer read, and return its new name; a missing one is fine."""
    number = 0
    while (aside := path.with_name(f"{path.name}.corrupt{number or ''}")).exists():
        number += 1
    # Missing: another process that found the same damage has just renamed it.
    with contextlib.suppress(FileNotFoundError):
        path.replace(aside)
    return aside


def remove_temporary(folder: Path) -> None:
    """Remove what killed writers left in a folder; the caller knows that nobody is writing there."""
    for left in folder.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            left.unlink()


def _remove_stale(path: Path) -> None:
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                left.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
