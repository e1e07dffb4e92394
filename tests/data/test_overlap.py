"""Overlap of tested text with the train split: equal to a count by sets of words, cached, told by document."""

import random
import re

import numpy as np
import pytest

from gdnbench.data import open_corpus
from gdnbench.data.ngrams import N, text_ngrams
from gdnbench.data.overlap import corpus_overlap, overlap

WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def plain(train: list[str], tested: list[str]) -> dict[str, object]:
    """The same counts by Python's sets of tuples."""

    def grams(text: str) -> list[tuple[str, ...]]:
        found = words(text)
        return [tuple(found[place : place + N]) for place in range(len(found) - N + 1)]

    known = {gram for text in train for gram in grams(text)}
    hits = [[gram in known for gram in grams(text)] for text in tested]
    return {
        "ngrams": sum(map(len, hits)),
        "in_train": sum(map(sum, hits)),
        "documents": len(tested),
        "documents_with": sum(map(any, hits)),
        "words": N,
        "shares": [pytest.approx(sum(hit) / len(hit), abs=1e-6) if hit else 0.0 for hit in hits],
    }


@pytest.mark.parametrize("seed", range(8))
def test_counts_are_those_of_sets_of_words(seed):
    rng = random.Random(seed)
    # Few words, so that 13 in a row come again; cases and marks that must not matter; letters beyond ASCII.
    vocabulary = ["a", "B", "Éa", "été", "x1", "漢字", "don't"][: rng.randint(1, 7)]
    marks = [" ", ", ", "\n", " — ", "_"]

    def text() -> str:
        return "".join(rng.choice(vocabulary) + rng.choice(marks) for _ in range(rng.randint(0, 60)))

    train, tested = [text() for _ in range(30)], [text() for _ in range(10)]
    assert overlap(train, {"test": tested})["test"] == plain(train, tested)


def test_batches_do_not_matter(monkeypatch):
    texts = [" ".join(random.Random(seed).choices("abcdef", k=5 * seed)) for seed in range(12)]
    whole = [gram for batch in text_ngrams(texts) for gram in batch]
    monkeypatch.setattr("gdnbench.data.ngrams.BATCH_CHARACTERS", 1)
    one_by_one = [gram for batch in text_ngrams(texts) for gram in batch]
    assert len(whole) == len(texts)
    assert all(np.array_equal(a, b) for a, b in zip(whole, one_by_one, strict=True))
    assert [len(gram) for gram in whole] == [max(0, 5 * seed - N + 1) for seed in range(12)]


def test_numbers_of_different_ngrams_differ():
    rng = random.Random(1)
    grams = np.concatenate([g for b in text_ngrams(" ".join(rng.choices("ab", k=50_000)) for _ in range(4)) for g in b])
    assert len(np.unique(grams)) == 2**N, "every sequence of two letters comes, and each has a number of its own"


def folder(path, train: str, test: str):
    path.mkdir()
    for split, text in (("train", train), ("valid", "nothing here"), ("test", test)):
        (path / f"{split}.txt").write_text(text, encoding="utf-8")
    return open_corpus(f"text:{path}")


def test_a_repeated_book_is_found_and_remembered_by_content(tmp_path, monkeypatch):
    book = " ".join(f"word{place}" for place in range(100))
    corpus = folder(tmp_path / "a", f"First.\n\nAgain: {book.upper()}!", f"{book}\n\nA page of its own.")
    other = folder(tmp_path / "b", "of no account", book)
    found = corpus_overlap(corpus, {"text:b": other})
    assert found["test"] == {
        "words": N, "ngrams": 88, "in_train": 88, "documents": 2, "documents_with": 1, "shares": [1.0, 0.0],
    }  # fmt: skip
    assert found["text:b test"]["in_train"] == 88
    monkeypatch.setattr("gdnbench.data.overlap.overlap", lambda *_: pytest.fail("counted again"))
    assert corpus_overlap(corpus, {"text:b": other}) == found
