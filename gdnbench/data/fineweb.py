"""FineWeb-Edu's 10-billion-token sample, split by the hash of each document, from the hub or from a local copy."""

import hashlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from gdnbench.data.corpus import SPLITS, Corpus, Source
from gdnbench.data.hub import hub_files, hub_revision, parquet_texts
from gdnbench.errors import GdnbenchError

REPO = "HuggingFaceFW/fineweb-edu"
CONFIG = "sample-10BT"
# Where that configuration lies in the repository.
FOLDER = "sample/10BT"
# One document in 2,000 for valid and for test each: about 5 million tokens of the 10 billion.
BUCKETS = 2000


def open_fineweb_edu(folder: Path | None) -> Corpus:
    """Return the corpus from the ``*.parquet`` files of ``folder``, or from the hub if that is None.

    A folder holds them directly, or under ``sample/10BT`` or ``sample-10BT``. A document is a row; the hash of its
    text decides its split, so equal documents never lie in two splits.
    """
    metadata = {"source": REPO, "config": CONFIG, "document": "one row", "license": "ODC-By 1.0"}
    if folder is None:
        revision = hub_revision(REPO, "fineweb-edu")
        metadata["revision"] = revision
        files = partial(hub_files, REPO, revision, FOLDER, "", "fineweb-edu")
    else:
        files = partial(iter, _local_files(folder))
    sources = {split: Source(files=files, read=partial(_documents, split=split)) for split in SPLITS}
    return Corpus(name="fineweb-edu", metadata=metadata, sources=sources)


def split_of(document: str) -> str:
    """Return the split of a document: a function of its text alone."""
    bucket = int.from_bytes(hashlib.sha256(document.encode()).digest()[:8], "little") % BUCKETS
    return {0: "valid", 1: "test"}.get(bucket, "train")


def _documents(paths: Iterable[Path], split: str) -> Iterator[str]:
    return (text for text in parquet_texts(paths) if text and split_of(text) == split)


def _local_files(folder: Path) -> list[Path]:
    for place in (folder, folder / FOLDER, folder / CONFIG):
        if paths := sorted(place.glob("*.parquet")):
            return paths
    raise GdnbenchError(f"corpus fineweb-edu: {folder}: no *.parquet there, nor under {FOLDER} or {CONFIG}")
