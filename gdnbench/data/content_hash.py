"""The hash of a corpus' content, read once and remembered until one of its files changes."""

import hashlib
import json

from gdnbench.data.cache import cache_folder
from gdnbench.data.corpus import Corpus, combined_digest, split_digest
from gdnbench.files import atomic_file

# Part of the key of the remembered hashes: raise it when the bytes or the documents of any corpus are read differently.
HASH_VERSION = 1


def corpus_hash(corpus: Corpus) -> str:
    """Return the SHA-256 over every split of ``corpus``: names, document boundaries and bytes."""
    return combined_digest({split: split_hash(corpus, split) for split in corpus.splits})


def split_hash(corpus: Corpus, split: str) -> str:
    """Return the SHA-256 of one split, from the cache if all its files are as they were."""
    source = corpus.source(split)
    identity = json.dumps([HASH_VERSION, corpus.name, split, source.fingerprint()])
    path = cache_folder() / "hashes" / f"{hashlib.sha256(identity.encode()).hexdigest()}.txt"
    if path.is_file() and len(known := path.read_text(encoding="ascii", errors="replace")) == 64:
        return known
    digest = split_digest(source.documents())
    with atomic_file(path) as file:
        file.write(digest.encode())
    return digest
