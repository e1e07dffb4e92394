"""What the WikiText conventions count: words, line ends, pages, bytes, and the tokens that touch an <unk>."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from gdnbench.data.tokenizers import Tokenizer
from gdnbench.data.wikitext import is_page_heading

UNK = "<unk>"


def word_level_tokens(text: str) -> int:
    """Return the words of a ``.tokens`` text plus its line ends, each of which is a token in WikiText's own count."""
    return len(text.split()) + text.count("\n")


def unk_words(text: str) -> int:
    """Return how many words of a ``.tokens`` text are ``<unk>``."""
    return text.split().count(UNK)


def lmeval_pages(text: str) -> list[str]:
    """Return the pages of a split as lm-eval's data set has them.

    A page runs from its heading to just before the newline ahead of the next heading; blank lines before the first
    heading are dropped.
    """
    return ["\n".join(lines) for lines in _page_lines(text.split("\n")) if any(map(str.strip, lines))]


def lmeval_words(page: str) -> int:
    """Return the pieces between runs of white space, counting the empty ones that a page's two blank ends make."""
    return len(re.split(r"\s+", page))


def scored_mask(text: str, tokens: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """Return, for each of the ``tokens`` [n] of ``text``, whether it shares no byte with an ``<unk>``; bool [n]."""
    lengths = tokenizer.byte_lengths[tokens]
    ends = np.cumsum(lengths)
    starts = ends - lengths
    mask = np.ones(len(tokens), dtype=bool)
    for match in re.finditer(re.escape(UNK).encode(), text.encode()):
        first = np.searchsorted(ends, match.start(), side="right")
        mask[first : np.searchsorted(starts, match.end(), side="left")] = False
    return mask


def _page_lines(lines: Sequence[str]) -> Iterator[list[str]]:
    page: list[str] = []
    for line in lines:
        if is_page_heading(line):
            yield page
            page = []
        page.append(line)
    yield page
