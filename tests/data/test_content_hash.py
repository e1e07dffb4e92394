"""The content hash: it sees splits, boundaries and bytes, and reads files again only when they changed."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdnbench.data import content_hash
from gdnbench.data.content_hash import corpus_hash, split_hash
from gdnbench.data.corpora import open_corpus
from gdnbench.data.corpus import combined_digest, split_digest

documents = st.lists(st.text(max_size=4), max_size=4)


@given(documents, documents)
def test_split_digests_are_equal_exactly_for_equal_documents(left: list[str], right: list[str]):
    assert (split_digest(left) == split_digest(right)) == (left == right)


def test_moving_a_document_to_another_split_changes_the_hash():
    assert combined_digest({"train": "a", "valid": "b"}) != combined_digest({"train": "b", "valid": "a"})
    assert combined_digest({"valid": "b", "train": "a"}) == combined_digest({"train": "a", "valid": "b"})


def test_the_hash_is_remembered_until_a_file_changes(books: Path, monkeypatch: pytest.MonkeyPatch):
    calls = []
    monkeypatch.setattr(content_hash, "split_digest", lambda d: (calls.append(1), split_digest(d))[1])
    first = corpus_hash(open_corpus(f"text:{books}"))
    assert corpus_hash(open_corpus(f"text:{books}")) == first
    assert len(calls) == 2  # train and valid, once each
    valid = books / "valid.txt"
    stamp = valid.stat().st_mtime_ns
    valid.write_text("Held OUT.\n")
    os.utime(valid, ns=(stamp + 1, stamp + 1))
    assert corpus_hash(open_corpus(f"text:{books}")) != first
    assert len(calls) == 3


def test_the_hash_depends_on_content_and_not_on_place(books: Path, tmp_path: Path):
    copy = tmp_path / "elsewhere"
    books_hash = split_hash(open_corpus(f"text:{books}"), "train")
    copy.mkdir()
    (copy / "train.txt").write_bytes((books / "train-00.txt").read_bytes())
    (copy / "val.txt").write_text("x")
    assert split_hash(open_corpus(f"text:{copy}"), "train") == books_hash


def test_a_damaged_remembered_hash_is_computed_again(books: Path, cache: Path):
    first = corpus_hash(open_corpus(f"text:{books}"))
    for path in (cache / "hashes").iterdir():
        path.write_text("half")
    assert corpus_hash(open_corpus(f"text:{books}")) == first
