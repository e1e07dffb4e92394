"""WikiText's word perplexity under three conventions that give different numbers and are never mixed.

``wt103_token_ppl``
    The classic convention of WikiText-103 v1. The split's file is one stream, exactly as it is, with ``<unk>`` spelled
    out as a word; the denominator is its word-level tokens with each line end counted as one (test: 245,569). Only
    for models trained on v1.
``lmeval_word_ppl``
    lm-eval's task `wikitext`. Each page of the raw form is detokenized and scored as a document of its own, in
    disjoint windows; the denominators are the pieces and bytes of the page before that. (The task takes the test
    split of WikiText-2, which is that of WikiText-103.)
``wt103_nounk_ppl``
    Each page of v1, detokenized, as a document of its own. A model token that overlaps an ``<unk>`` is context but
    is not scored, and the denominator leaves these words out: for models that never saw ``<unk>``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gdnbench.data.content_hash import split_hash
from gdnbench.data.corpora import corpus_name, open_corpus
from gdnbench.data.tokenizers import Tokenizer
from gdnbench.errors import GdnbenchError, unknown
from gdnbench.evaluate.detokenize import detokenize
from gdnbench.evaluate.documents import DocumentScore, document_score
from gdnbench.evaluate.scoring import Progress, score_documents
from gdnbench.evaluate.validation import perplexity
from gdnbench.evaluate.wikitext_counts import lmeval_pages, lmeval_words, scored_mask, unk_words, word_level_tokens

V1, RAW = "wikitext-103", "wikitext-103-raw"
# One word in a hundred is <unk> in v1, while raw text can at most mention it.
LARGEST_RAW_UNK_SHARE = 0.001


@dataclass(frozen=True, kw_only=True)
class WordPerplexity:
    """One metric on one split. ``value`` is exp(total_nll / denominator), ``total_nll`` in nats.

    ``excluded`` counts the ``<unk>`` words that are not scored, and ``excluded_tokens`` the model tokens that overlap
    them. ``bytes``, described by ``bytes_name``, is the denominator of ``bits_per_byte`` and ``byte_perplexity``.
    ``by_document`` holds what each document adds to the sums, by the bytes of its own scored tokens.
    ``out_of_domain``: the model was trained on something else than WikiText-103 (for ``wt103_token_ppl``: than v1).
    """

    metric: str
    value: float
    total_nll: float
    denominator: int
    denominator_name: str
    bits_per_byte: float
    byte_perplexity: float
    bytes: int
    bytes_name: str
    documents: int
    scored_tokens: int
    excluded: int
    excluded_tokens: int
    window: int
    stride: int
    carry_state: bool
    document_start: str
    out_of_domain: bool
    trained_on: str
    corpus: str
    split: str
    split_hash: str
    tokenizer: str
    tokenizer_hash: str
    by_document: tuple[DocumentScore, ...]

    def about(self) -> dict[str, Any]:
        """Return all fields as plain data, without the documents."""
        return {name: value for name, value in vars(self).items() if name != "by_document"}


@dataclass(frozen=True, kw_only=True)
class Convention:
    """What a metric scores (``texts``, each a document) and what it divides by, from the pages of a split."""

    corpus: str
    texts: Callable[[Sequence[str]], list[str]]
    words: Callable[[Sequence[str]], int]
    denominator_name: str
    bytes_name: str
    document_start: str
    # The bytes to divide by, or None for those of the scored tokens.
    size: Callable[[Sequence[str]], int] | None = None
    in_domain: tuple[str, ...] = (V1, RAW)
    in_domain_only: bool = False
    disjoint_only: bool = False
    skips_unk: bool = False


METRICS = {
    "wt103_token_ppl": Convention(
        corpus=V1,
        texts=lambda pages: ["".join(pages)],
        words=lambda pages: word_level_tokens("".join(pages)),
        denominator_name="word-level tokens, line ends included",
        bytes_name="bytes of the .tokens file",
        document_start="the separator once, before the whole split as one stream",
        in_domain=(V1,),
        in_domain_only=True,
    ),
    "lmeval_word_ppl": Convention(
        corpus=RAW,
        texts=lambda pages: [detokenize(page) for page in lmeval_pages("".join(pages))],
        words=lambda pages: sum(map(lmeval_words, lmeval_pages("".join(pages)))),
        denominator_name="pieces between white space of the original pages, empty ends included",
        size=lambda pages: sum(len(page.encode()) for page in lmeval_pages("".join(pages))),
        bytes_name="bytes of the original pages",
        document_start="the separator before each page",
        disjoint_only=True,
    ),
    "wt103_nounk_ppl": Convention(
        corpus=V1,
        texts=lambda pages: [detokenize(page) for page in pages],
        words=lambda pages: word_level_tokens("".join(pages)) - unk_words("".join(pages)),
        denominator_name="word-level tokens, line ends included, without <unk>",
        bytes_name="bytes of the scored tokens of the detokenized pages",
        document_start="the separator before each page",
        skips_unk=True,
    ),
}


def evaluate_wikitext(
    model: Any,
    tokenizer: Tokenizer,
    corpus: str,
    split: str,
    metric: str,
    *,
    window: int,
    trained_on: str,
    stride: int | None = None,
    batch_size: int = 8,
    carry_state: bool = False,
    out_of_domain: bool = False,
    progress: Progress | None = None,
) -> WordPerplexity:
    """Return one ``metric`` of `METRICS` on ``split`` of ``corpus`` (``wikitext-103[-raw][:<folder>]``).

    ``window`` is the most tokens that the model reads at once; ``stride`` (default: ``window``) how many of them each
    window scores. ``carry_state`` reads on from window to window instead. ``trained_on`` names the corpus of the
    model's training. Raises `GdnbenchError` for an unknown metric, a form of WikiText that the metric is not
    defined on, windows that it does not have, and, unless ``out_of_domain`` allows it, ``wt103_token_ppl`` of a
    model that was not trained on v1.
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    stride = window if stride is None else stride
    _check_setting(metric, corpus, trained_on, out_of_domain, stride != window or carry_state)
    opened = open_corpus(corpus)
    pages = list(opened.documents(split))
    _check_pages(metric, corpus, split, pages)
    texts = METRICS[metric].texts(pages)
    tokens = tokenizer.encode_batch(texts)
    scores = score_documents(
        model,
        tokens,
        separator=tokenizer.separator,
        window=window,
        stride=stride,
        batch_size=batch_size,
        carry_state=carry_state,
        progress=progress,
    )
    labels = {"metric": metric, "window": window, "stride": stride, "carry_state": carry_state}
    labels |= {"corpus": opened.name, "split": split, "split_hash": split_hash(opened, split)}
    labels |= {"trained_on": corpus_name(trained_on), "tokenizer": tokenizer.name, "tokenizer_hash": tokenizer.hash}
    kept = _kept(METRICS[metric], texts, tokens, tokenizer)
    documents = [
        document_score(ids[mask], score[mask], tokenizer) for ids, score, mask in zip(tokens, scores, kept, strict=True)
    ]
    return _result(pages, documents, sum(map(len, tokens)), labels)


def _kept(convention: Convention, texts: list[str], tokens: list[np.ndarray], tokenizer: Tokenizer) -> list[np.ndarray]:
    """Return which tokens of each document count, bool."""
    if convention.skips_unk:
        return [scored_mask(text, ids, tokenizer) for text, ids in zip(texts, tokens, strict=True)]
    return [np.ones(len(ids), dtype=bool) for ids in tokens]


def _result(pages: list[str], documents: list[DocumentScore], tokens: int, labels: dict[str, Any]) -> WordPerplexity:
    """Add up the documents and divide by what the metric divides by; ``tokens`` counts those of all texts."""
    convention = METRICS[labels["metric"]]
    total_nll = math.fsum(document.nll for document in documents)
    scored = sum(document.tokens for document in documents)
    words = convention.words(pages)
    size = sum(document.bytes for document in documents) if convention.size is None else convention.size(pages)
    return WordPerplexity(
        value=perplexity(total_nll, words),
        total_nll=total_nll,
        denominator=words,
        denominator_name=convention.denominator_name,
        bits_per_byte=total_nll / math.log(2) / size if size else math.nan,
        byte_perplexity=perplexity(total_nll, size),
        bytes=size,
        bytes_name=convention.bytes_name,
        documents=len(documents),
        by_document=tuple(documents),
        scored_tokens=scored,
        excluded=unk_words("".join(pages)) if convention.skips_unk else 0,
        excluded_tokens=tokens - scored,
        document_start=convention.document_start,
        out_of_domain=labels["trained_on"] not in convention.in_domain,
        **labels,
    )


def _check_setting(metric: str, corpus: str, trained_on: str, out_of_domain: bool, other_windows: bool) -> None:
    convention = METRICS[metric]
    if corpus_name(corpus) != convention.corpus:
        raise GdnbenchError(
            f"{metric} is defined on {convention.corpus}, got {corpus}; give {convention.corpus}[:<folder>]"
        )
    if convention.in_domain_only and corpus_name(trained_on) not in convention.in_domain and not out_of_domain:
        raise GdnbenchError(
            f"{metric} is only for models trained on {' or '.join(convention.in_domain)}, this one was trained on "
            f"{corpus_name(trained_on)}; take wt103_nounk_ppl, or pass out_of_domain to have the number so labelled"
        )
    if convention.disjoint_only and other_windows:
        raise GdnbenchError(f"{metric} is defined by disjoint windows; leave out the stride and the carried state")


def _check_pages(metric: str, corpus: str, split: str, pages: list[str]) -> None:
    words = sum(len(page.split()) for page in pages)
    if not words:
        raise GdnbenchError(f"{metric}: split {split} of {corpus} is empty")
    unknown_words = sum(map(unk_words, pages))
    if METRICS[metric].corpus == RAW and unknown_words > LARGEST_RAW_UNK_SHARE * words:
        raise GdnbenchError(
            f"{metric}: {unknown_words} of {words} words of {corpus} are <unk>, so this is no raw text but v1; "
            f"give the files of wikitext-103-raw-v1"
        )
