"""The n-grams of words of texts as 64-bit numbers, by array arithmetic, so that half a gigabyte takes a minute.

A word is a maximal run of letters and digits, its case folded to lower; all else separates words. A word's number is a
polynomial of its code points modulo 2^64, mixed; an n-gram's is a polynomial of its words' numbers. With a million
n-grams to look for and a hundred million to look at, a chance hit is expected in 1e14 / 2^64 = 5e-6 of all studies.
"""

from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np

N = 13
# Characters handled at once: enough to hide what a call costs, little enough for any memory (8 arrays of 8 bytes each).
BATCH_CHARACTERS = 1 << 21

_POINT, _WORD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)  # odd, hence with an inverse
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_HALF = np.uint64(32)


def text_ngrams(texts: Iterable[str], n: int = N) -> Iterator[list[np.ndarray]]:
    """Yield, for batches of ``texts`` in order, the numbers of each text's n-grams: uint64 [words - n + 1] or empty."""
    for batch in _batches(texts):
        words, counts = _word_numbers(batch)
        grams = _ngram_numbers(words, n)
        ends = np.cumsum(counts)
        # An n-gram that begins less than n words before a text's end would reach into the next text.
        yield [grams[end - count : max(end - count, end - n + 1)] for end, count in zip(ends, counts)]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _word_numbers(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of every word, uint64 [words], and how many words each text has."""
    joined = "\n".join([*texts, ""])
    points = _folded()[np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32)]
    inside = points != 0
    edges = np.diff(inside.astype(np.int8), prepend=np.int8(0))
    # Each text ends in a separator, so every word that starts also ends.
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    powers = _powers(len(points))
    sums = np.concatenate([[np.uint64(0)], np.cumsum(points * powers, dtype=np.uint64)])
    # The same word has the same number wherever it stands: its sum is divided by the power of its place.
    numbers = (sums[ends] - sums[starts]) * _inverse_powers(len(points))[starts]
    text_ends = np.cumsum([len(text) + 1 for text in texts])
    counts = np.diff(np.searchsorted(starts, text_ends), prepend=0)
    return _mixed(numbers), counts


def _ngram_numbers(words: np.ndarray, n: int) -> np.ndarray:
    if len(words) < n:
        return np.zeros(0, dtype=np.uint64)
    size = len(words) - n + 1
    grams = np.zeros(size, dtype=np.uint64)
    for place in range(n):
        grams *= _WORD
        grams += words[place : place + size]
    return _mixed(grams)


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Spread differences over all bits: the low bits of a polynomial know little of the high bits of its points."""
    numbers = numbers ^ (numbers >> _HALF)
    numbers *= _MIX
    return numbers ^ (numbers >> _HALF)


@cache
def _folded() -> np.ndarray:
    """Return code point -> that of its lower case, 0 for what is no letter and no digit; uint64."""
    table = np.zeros(0x110000, dtype=np.uint64)
    for point in range(0x110000):
        character = chr(point)
        if character.isalnum():
            lower = character.lower()
            table[point] = ord(lower) if len(lower) == 1 else point
    return table


_tables: dict[str, np.ndarray] = {}


def _powers(size: int) -> np.ndarray:
    return _table("powers", _POINT, size)


def _inverse_powers(size: int) -> np.ndarray:
    return _table("inverses", np.uint64(pow(int(_POINT), -1, 1 << 64)), size)


def _table(name: str, base: np.uint64, size: int) -> np.ndarray:
    """Return base^0 … base^(size-1) modulo 2^64, kept for the largest size asked for."""
    if name not in _tables or len(_tables[name]) < size:
        factors = np.full(size, base, dtype=np.uint64)
        factors[0] = 1
        _tables[name] = np.cumprod(factors, dtype=np.uint64)
    return _tables[name][:size]
