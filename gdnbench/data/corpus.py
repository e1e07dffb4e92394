"""A corpus is a name, its splits, and the documents of each split in a fixed order."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdnbench.errors import GdnbenchError

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one split comes from: ``files`` finds (or downloads, as it goes) the files and ``read`` streams them."""

    files: Callable[[], Iterable[Path]]
    read: Callable[[Iterable[Path]], Iterator[str]]

    def documents(self) -> Iterator[str]:
        """Yield the documents, in an order that never changes."""
        return self.read(self.files())

    def fingerprint(self) -> list[list[str | int]]:
        """Return path, size in bytes and modification time in ns of each file: what tells cheaply that it changed."""
        return [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in self.files()]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The text behind a corpus name. ``metadata`` is what a record keeps about it; it holds no machine's path."""

    name: str
    metadata: Mapping[str, Any]
    sources: Mapping[str, Source]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that exist, in the order train, valid, test."""
        return tuple(split for split in SPLITS if split in self.sources)

    def source(self, split: str) -> Source:
        """Return the source of ``split``; raise `GdnbenchError` with the splits that exist if it is none of them."""
        if split not in self.sources:
            found = ", ".join(self.splits)
            raise GdnbenchError(f"corpus {self.name}: no split {split!r} here; found: {found}")
        return self.sources[split]

    def documents(self, split: str) -> Iterator[str]:
        """Yield the documents of ``split``; raise `GdnbenchError` if there is no such split."""
        return self.source(split).documents()


def split_digest(documents: Iterable[str]) -> str:
    """Return the SHA-256 over boundaries and UTF-8 bytes of ``documents``, reading them once."""
    hasher = hashlib.sha256()
    for document in documents:
        data = document.encode()
        # The length first, so that moving a boundary changes the hash.
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()


def combined_digest(digests: Mapping[str, str]) -> str:
    """Return the SHA-256 over the names and digests of the splits."""
    lines = (f"{split} {digests[split]}\n" for split in SPLITS if split in digests)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def decode_utf8(data: bytes, path: Path, offset: int = 0) -> str:
    """Decode bytes found at ``offset`` of ``path``; raise `GdnbenchError` naming the file and the bad byte's offset."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise GdnbenchError(
            f"{path}: not UTF-8 at byte {offset + error.start}; convert it with `iconv -t UTF-8` first"
        ) from None


def read_bytes(path: Path) -> bytes:
    """Return the file's bytes; raise `GdnbenchError` naming it if that fails."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise GdnbenchError(f"{path}: cannot be read: {error.strerror or error}") from error
