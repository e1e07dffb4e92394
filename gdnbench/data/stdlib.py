"""The corpus that every machine has: the source of the running Python's standard library."""

import hashlib
import os
import platform
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from gdnbench.data.corpus import Corpus, Source, decode_utf8, read_bytes
from gdnbench.errors import GdnbenchError

SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
# Written when that Python was built: paths and flags of one machine, not source.
SKIPPED_PREFIX = "_sysconfigdata"
HELD_OUT_SHARE = 0.05


def open_stdlib() -> Corpus:
    """Return the corpus: a document is one ``*.py`` file, about 90% train, 5% valid and 5% test by bytes.

    A top-level module or package lies in one split as a whole, because generated files repeat each other inside one.
    Test folders, and the few files that are not UTF-8, are left out.
    """
    root = Path(sysconfig.get_path("stdlib"))
    sizes = {path: path.stat().st_size for path in sorted(_sources(root)) if _is_utf8(path)}
    if not sizes:
        raise GdnbenchError(f"corpus stdlib: no *.py file under {root}; this Python ships without its source")
    splits = split_by_unit({path: (_unit(path, root), size) for path, size in sizes.items()})
    metadata = {"python": platform.python_version(), "files": len(sizes), "document": "one *.py file"}
    sources = {
        split: Source(files=partial(iter, paths), read=_whole_files)  # bound now: the loop variable moves on
        for split, paths in splits.items()
    }
    return Corpus(name="stdlib", metadata=metadata, sources=sources)


def split_by_unit(files: dict[Path, tuple[str, int]]) -> dict[str, list[Path]]:
    """Split ``files`` (path -> unit and size in bytes) into train, valid and test without dividing a unit.

    Units are taken in the order of the SHA-256 of their names; each goes to valid if it still fits into that split's
    share of the bytes, else to test if it fits there, else to train. A plain hash of the name would hand a tenth of
    all the text to whichever split gets ``encodings``.
    """
    unit_bytes: dict[str, int] = defaultdict(int)
    for unit, size in files.values():
        unit_bytes[unit] += size
    quota = int(HELD_OUT_SHARE * sum(unit_bytes.values()))
    room = {"valid": quota, "test": quota}
    split_of = {}
    for unit in sorted(unit_bytes, key=lambda name: hashlib.sha256(name.encode()).digest()):
        split_of[unit] = next((split for split in room if unit_bytes[unit] <= room[split]), "train")
        if split_of[unit] in room:
            room[split_of[unit]] -= unit_bytes[unit]
    return {
        split: [path for path, (unit, _) in files.items() if split_of[unit] == split]
        for split in ("train", "valid", "test")
    }


def _sources(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if name not in SKIPPED_FOLDERS]
        for name in names:
            if name.endswith(".py") and not name.startswith(SKIPPED_PREFIX):
                yield Path(folder, name)


def _is_utf8(path: Path) -> bool:
    """Tell whether the file holds text; empty files, of which there are some, make no document."""
    try:
        return bool(read_bytes(path).decode("utf-8"))
    except UnicodeDecodeError:
        return False


def _unit(path: Path, root: Path) -> str:
    return path.relative_to(root).parts[0].removesuffix(".py")


def _whole_files(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        yield decode_utf8(read_bytes(path), path)
