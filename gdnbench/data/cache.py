"""The cache folder, and files in it that appear whole or not at all."""

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


def cache_folder() -> Path:
    """Return ``$GDNBENCH_CACHE``, else ``$XDG_CACHE_HOME/gdnbench``, else ``~/.cache/gdnbench``; it may not exist."""
    if own := os.environ.get("GDNBENCH_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gdnbench"


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file that becomes ``path`` when the block ends well, and vanishes when it does not.

    Two processes may write the same ``path`` at once: each has its own temporary file and the last rename wins.
    A failing disk or folder raises `GdnbenchError` naming ``path``.
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
        raise _write_error(path, error) from error
    finally:
        # Gone when all went well; where the folder itself is at fault, that error is the one to report.
        with contextlib.suppress(OSError):
            temporary.unlink()


def set_aside(path: Path) -> Path:
    """Rename a damaged file to the same name with ``.corrupt`` appended and return that; a missing one is fine."""
    aside = path.with_name(f"{path.name}.corrupt")
    # Missing: another process that found the same damage has just renamed it.
    with contextlib.suppress(FileNotFoundError):
        path.replace(aside)
    return aside


def _write_error(path: Path, error: OSError) -> GdnbenchError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return GdnbenchError(f"{path}: no space left on device; free some, or set GDNBENCH_CACHE to a larger disk")
    reason = error.strerror or str(error)
    return GdnbenchError(f"{path}: cannot be written: {reason}; set GDNBENCH_CACHE to a folder that can")


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
