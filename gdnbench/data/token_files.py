"""Token files: one split as a memory-mapped array with its manifest, built once and checked when opened."""

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gdnbench.data.cache import cache_folder
from gdnbench.data.corpus import Corpus
from gdnbench.data.tokenizers import Tokenizer
from gdnbench.errors import GdnbenchError
from gdnbench.files import atomic_file, set_aside

# Part of every token file's key: raise it when the layout or the meaning of the files changes.
FORMAT_VERSION = 1
# Text encoded at once: enough to occupy all cores, little enough to fit anywhere.
BATCH_CHARACTERS = 1 << 22


@dataclass(frozen=True, kw_only=True)
class TokenSplit:
    """One split: ``tokens`` [n], memory-mapped, each document followed by the separator, and its manifest.

    Manifest keys: format, corpus, corpus_hash, metadata, split, tokenizer, tokenizer_hash, dtype, tokens (separators
    included), bytes (UTF-8, without separators), words (whitespace-separated), documents, sha256 (of the file).
    """

    tokens: np.memmap
    manifest: Mapping[str, Any]


class _Damaged(Exception):
    """A token file that cannot be what its manifest says."""


def token_dtype(vocab_size: int) -> np.dtype:
    """Return the smallest little-endian unsigned type that holds every id of a vocabulary."""
    return np.dtype("<u1" if vocab_size <= 1 << 8 else "<u2" if vocab_size <= 1 << 16 else "<u4")


def token_file(corpus_digest: str, tokenizer_hash: str, split: str) -> Path:
    """Return where the token file of these inputs lies, built or not; its manifest has the suffix ``.json``."""
    key = hashlib.sha256(f"{FORMAT_VERSION} {corpus_digest} {tokenizer_hash}".encode()).hexdigest()
    return cache_folder() / "tokens" / key[:32] / f"{split}.bin"


def ensure_split(corpus: Corpus, corpus_digest: str, tokenizer: Tokenizer, split: str) -> TokenSplit:
    """Return the token file of ``split``, building it if need be.

    A damaged one is renamed ``*.corrupt`` and built again, with a `RuntimeWarning` that names it.
    """
    source = corpus.source(split)
    path = token_file(corpus_digest, tokenizer.hash, split)
    if path.is_file() and path.with_suffix(".json").is_file():
        try:
            return _open(path, tokenizer)
        except _Damaged as damage:
            aside = set_aside(path)
            path.with_suffix(".json").unlink(missing_ok=True)
            warnings.warn(f"{path}: {damage}; kept as {aside.name} and built again", RuntimeWarning, stacklevel=3)
    about = {
        "format": FORMAT_VERSION,
        "corpus": corpus.name,
        "corpus_hash": corpus_digest,
        "metadata": dict(corpus.metadata),
        "split": split,
        "tokenizer": tokenizer.name,
        "tokenizer_hash": tokenizer.hash,
    }
    manifest = _write_tokens(path, source.documents(), tokenizer, about)
    with atomic_file(path.with_suffix(".json")) as file:
        file.write(json.dumps(manifest, indent=1).encode())
    return open_split(path, tokenizer)


def open_split(path: Path, tokenizer: Tokenizer) -> TokenSplit:
    """Map an existing token file; raise `GdnbenchError` if it is damaged or was made with another tokenizer."""
    try:
        return _open(path, tokenizer)
    except _Damaged as damage:
        raise GdnbenchError(f"{path}: {damage}; delete it to have it built again") from None


def _open(path: Path, tokenizer: Tokenizer) -> TokenSplit:
    manifest = _read_manifest(path.with_suffix(".json"))
    if manifest["tokenizer_hash"] != tokenizer.hash:
        raise GdnbenchError(
            f"{path}: made with tokenizer {manifest['tokenizer']} ({manifest['tokenizer_hash'][:12]}), "
            f"but asked for is {tokenizer.name} ({tokenizer.hash[:12]}); use that tokenizer, or another token file"
        )
    dtype = np.dtype(manifest["dtype"])
    expected, found = manifest["tokens"] * dtype.itemsize, path.stat().st_size
    if found != expected:
        kind = "truncated" if found < expected else "too long"
        raise _Damaged(f"{kind}: {found} bytes where its manifest says {expected}")
    return TokenSplit(tokens=np.memmap(path, dtype=dtype, mode="r"), manifest=manifest)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
        missing = {"tokenizer", "tokenizer_hash", "dtype", "tokens"} - manifest.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise _Damaged(f"its manifest {path.name} is not readable ({error})") from error
    if missing:
        raise _Damaged(f"its manifest {path.name} lacks {', '.join(sorted(missing))}")
    return dict(manifest)


def _write_tokens(path: Path, documents: Iterable[str], tokenizer: Tokenizer, about: dict[str, Any]) -> dict[str, Any]:
    """Write the data file and return its manifest, which is written after it: no manifest, no token file."""
    dtype = token_dtype(tokenizer.vocab_size)
    separator = np.array([tokenizer.separator], dtype=dtype).tobytes()
    counts = {"tokens": 0, "bytes": 0, "words": 0, "documents": 0}
    hasher = hashlib.sha256()
    with atomic_file(path) as file:
        for texts in _batches(documents):
            for text, tokens in zip(texts, tokenizer.encode_batch(texts)):
                data = tokens.astype(dtype).tobytes() + separator
                file.write(data)
                hasher.update(data)
                counts["tokens"] += len(tokens) + 1
                counts["bytes"] += len(text.encode())
                counts["words"] += len(text.split())
                counts["documents"] += 1
        if not counts["documents"]:
            raise GdnbenchError(f"corpus {about['corpus']}: split {about['split']} is empty; it holds no document")
    return {**about, "dtype": dtype.str, **counts, "sha256": hasher.hexdigest()}


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
