"""What a model makes of each document of a split: the unit that text is sampled by, so of intervals over text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gdnbench.data.tokenizers import Tokenizer
from gdnbench.evaluate.scoring import Progress, score_documents


@dataclass(frozen=True, kw_only=True)
class DocumentScore:
    """The scored tokens of a document: their summed negative log likelihood in nats, their number and their bytes."""

    nll: float
    tokens: int
    bytes: int


def split_documents(tokens: np.ndarray, separator: int) -> list[np.ndarray]:
    """Return the documents of a token file [n], in which each is followed by ``separator``; views, in order."""
    ends = np.flatnonzero(tokens == separator)
    starts = np.concatenate([[0], ends[:-1] + 1])
    return [tokens[start:end] for start, end in zip(starts, ends)]


def document_scores(
    model: Any,
    documents: Sequence[np.ndarray],
    *,
    tokenizer: Tokenizer,
    window: int,
    batch_size: int,
    progress: Progress | None = None,
) -> list[DocumentScore]:
    """Score every token of ``documents``, each read from its start in windows that score each token once.

    See `gdnbench.evaluate.scoring.score_documents`; windows are disjoint but for the last, which is moved back.
    """
    scores = score_documents(
        model,
        documents,
        separator=tokenizer.separator,
        window=window,
        stride=window,
        batch_size=batch_size,
        progress=progress,
    )
    return [document_score(tokens, score, tokenizer) for tokens, score in zip(documents, scores, strict=True)]


def document_score(tokens: np.ndarray, nll: np.ndarray, tokenizer: Tokenizer) -> DocumentScore:
    """Return the sums over a document's scored ``tokens`` [n], given the negative log likelihood of each."""
    size = int(tokenizer.byte_lengths[tokens].sum())
    return DocumentScore(nll=math.fsum(nll), tokens=len(tokens), bytes=size)


def token_loss(scores: Sequence[DocumentScore]) -> float:
    """Return nats per token over all documents."""
    return math.fsum(score.nll for score in scores) / sum(score.tokens for score in scores)


def bits_per_byte(scores: Sequence[DocumentScore]) -> float:
    """Return bits per byte over all documents."""
    return math.fsum(score.nll for score in scores) / math.log(2) / sum(score.bytes for score in scores)
