"""Putting a finished folder in the place of an old one, so that a reader finds the old or the new, never a half."""

import contextlib
import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from gdnbench.errors import GdnbenchError
from gdnbench.files import storage_error

MANIFEST = "manifest.json"
_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux's renameat2(2)


@contextlib.contextmanager
def replaced_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``out`` that takes its place if the block ends without an error.

    A process killed at any moment leaves ``out`` as it was (or, where the file system cannot exchange two folders,
    for an instant none); what it leaves beside it is removed by the next call.

    Raises:
        GdnbenchError: ``out`` is not empty and no report, or the disk is full.
    """
    if out.exists() and not (out / MANIFEST).exists() and (not out.is_dir() or any(out.iterdir())):
        raise GdnbenchError(f"{out}: exists and is no report (it has no {MANIFEST}); name another folder or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(out)
    fresh = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        yield fresh
        _put_in_place(fresh, out)
    except OSError as error:
        raise storage_error(out, error) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _put_in_place(fresh: Path, out: Path) -> None:
    """Give ``fresh`` the name of ``out``; the old folder, if any, gets the name of ``fresh``."""
    if not out.exists():
        fresh.rename(out)
    elif not _exchange(fresh, out):
        old = fresh.with_name(f"{fresh.name}.old.partial")
        out.rename(old)
        fresh.rename(out)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; say False where the system or the file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return rename(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE) == 0


def _remove_leftovers(out: Path) -> None:
    """Remove what killed processes left beside ``out``; a live process keeps its folder."""
    for path in out.parent.glob(f".{out.name}.*.partial"):
        owner = path.name.removeprefix(f".{out.name}.").split(".")[0]
        if not (owner.isdigit() and int(owner) != os.getpid() and Path(f"/proc/{owner}").exists()):
            shutil.rmtree(path, ignore_errors=True)
