"""How much of the texts that a model is tested on stands in the text that it is trained on, by 13-grams of words.

The n-grams of the tested texts are held in memory (8 bytes each, and 16 MiB); the train split streams by.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gdnbench.data.cache import cache_folder
from gdnbench.data.content_hash import split_hash
from gdnbench.data.corpus import Corpus
from gdnbench.data.ngrams import N, text_ngrams
from gdnbench.files import atomic_file

# Part of the key of remembered counts: raise it when words or n-grams are made differently.
OVERLAP_VERSION = 2
# Most n-grams of the train split are told apart from all tested ones by these bits, without a search.
SIEVE_BITS = 24
Overlap = dict[str, Any]
_SHIFT = np.uint64(64 - SIEVE_BITS)


def corpus_overlap(corpus: Corpus, others: Mapping[str, Corpus]) -> dict[str, Overlap]:
    """Return the overlap of ``corpus``'s valid and test splits, and of those of ``others``, with its train split.

    ``others`` has them by label. Returns name of a split (``test``, ``wikitext-103 test``) -> {words, ngrams, in_train,
    documents, documents_with, shares}. ``in_train`` of the ``ngrams`` positions hold a 13-gram (of 13 ``words``) that
    also stands in the train split; ``documents_with`` of the ``documents`` have such a position; ``shares`` is each
    document's share of them. The texts are read once, and the result is remembered by their content.
    """
    sources = {split: (corpus, split) for split in corpus.splits if split != "train"}
    for label, other in others.items():
        sources |= {f"{label} {split}": (other, split) for split in other.splits if split != "train"}
    hashes = {name: split_hash(*source) for name, source in sources.items()}
    key = json.dumps([OVERLAP_VERSION, N, split_hash(corpus, "train"), sorted(hashes.items())])
    path = cache_folder() / "overlap" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if path.is_file():
        try:
            return dict(json.loads(path.read_bytes()))
        except ValueError:
            path.unlink()  # counted again below
    result = overlap(corpus.documents("train"), {name: c.documents(split) for name, (c, split) in sources.items()})
    with atomic_file(path) as file:
        file.write(json.dumps(result, indent=1).encode())
    return result


def lines(found: Mapping[str, Overlap]) -> list[str]:
    """Return an overlap as lines of text."""
    head = (
        f"{'text':24} {'n-grams':>12} {'in train':>12} {'share':>7} {'documents':>10} {'with any':>9} {'highest':>12}"
    )
    rows = [
        f"{name:24} {entry['ngrams']:>12,} {entry['in_train']:>12,} "
        f"{entry['in_train'] / max(1, entry['ngrams']):>7.2%} {entry['documents']:>10,} {entry['documents_with']:>9,} "
        f"{max(entry['shares'], default=0.0):>12.1%}"
        for name, entry in found.items()
    ]
    return [head, *rows]


def overlap(train: Iterable[str], tested: Mapping[str, Iterable[str]]) -> dict[str, Overlap]:
    """Return, for each named set of documents, how many of its n-grams and documents overlap with ``train``."""
    grams = {name: [gram for batch in text_ngrams(texts) for gram in batch] for name, texts in tested.items()}
    wanted = np.unique(
        np.concatenate([np.zeros(0, np.uint64), *(array for arrays in grams.values() for array in arrays)])
    )
    found = _found(train, wanted)
    return {
        name: _counts([found[np.searchsorted(wanted, array)] for array in arrays]) for name, arrays in grams.items()
    }


def _found(train: Iterable[str], wanted: np.ndarray) -> np.ndarray:
    """Return whether each of the sorted numbers ``wanted`` is that of an n-gram of ``train``; bool [wanted]."""
    found = np.zeros(len(wanted), dtype=bool)
    if not len(wanted):
        return found
    sieve = np.zeros(1 << SIEVE_BITS, dtype=bool)
    sieve[wanted >> _SHIFT] = True
    for batch in text_ngrams(train):
        grams = np.concatenate(batch)
        grams = grams[sieve[grams >> _SHIFT]]
        places = np.minimum(np.searchsorted(wanted, grams), len(wanted) - 1)
        found[places[wanted[places] == grams]] = True
    return found


def _counts(documents: Sequence[np.ndarray]) -> Overlap:
    """Return the counts of a set of documents, each given by whether its n-grams stand in the train split."""
    return {
        "words": N,
        "ngrams": sum(len(hits) for hits in documents),
        "in_train": sum(int(hits.sum()) for hits in documents),
        "documents": len(documents),
        "documents_with": sum(bool(hits.any()) for hits in documents),
        "shares": [round(float(hits.mean()), 6) if len(hits) else 0.0 for hits in documents],
    }
