"""Text folders: which file is in which split, what a document is, and errors that name file and byte."""

import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdnbench.data.corpora import corpus_label, open_corpus
from gdnbench.data.text_folder import read_documents
from gdnbench.errors import GdnbenchError


def test_documents_are_runs_of_lines_that_are_not_blank(books: Path):
    corpus = open_corpus(f"text:{books}")
    assert corpus.splits == ("train", "valid")
    assert list(corpus.documents("train")) == ["One line.\nTwo, the café.\n", "Second book.\n"]
    assert list(corpus.documents("valid")) == ["Held out.\n"]


def test_metadata_names_no_path_of_the_machine(books: Path):
    corpus = open_corpus(f"text:{books}")
    assert corpus.metadata["folder"] == "books"
    assert str(books.parent) not in str(corpus.metadata) + corpus.name


def test_splits_may_be_subfolders_and_validation_is_a_name_of_valid(tmp_path: Path):
    for name in ("train/b.txt", "train/a.txt", "validation/x.txt", "test/y.txt", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    corpus = open_corpus(f"text:{tmp_path}")
    assert list(corpus.documents("train")) == ["train/a.txt", "train/b.txt"]
    assert list(corpus.documents("valid")) == ["validation/x.txt"]
    assert list(corpus.documents("test")) == ["test/y.txt"]


def test_a_part_of_the_train_files_is_a_corpus_of_its_own(tmp_path: Path):
    for name in ("train-00.txt", "train-01.txt", "train-02.txt", "valid.txt"):
        (tmp_path / name).write_text(name)
    part = open_corpus(f"text:{tmp_path}#train-00,train-02")
    assert list(part.documents("train")) == ["train-00.txt", "train-02.txt"]
    assert list(part.documents("valid")) == ["valid.txt"]
    assert corpus_label(f"text:{tmp_path}#train-00") == f"text:{tmp_path.name}#train-00"
    with pytest.raises(GdnbenchError, match=r"no train file begins with train-07; found train-00\.txt"):
        open_corpus(f"text:{tmp_path}#train-00,train-07")


def test_a_missing_test_split_is_an_error_only_when_asked_for(books: Path):
    with pytest.raises(GdnbenchError, match="no split 'test' here; found: train, valid"):
        open_corpus(f"text:{books}").documents("test")


@pytest.mark.parametrize("missing", ["train-00.txt", "valid.txt"])
def test_missing_train_or_valid_is_an_error_at_once(books: Path, missing: str):
    (books / missing).unlink()
    with pytest.raises(GdnbenchError, match=f"no file of the {missing[:5]} split; found "):
        open_corpus(f"text:{books}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("text:/no/such/folder", "/no/such/folder: no such folder"),
        ("text", "needs a folder"),
        ("stdlib:/x", "did you mean text:/x"),
        ("stdlb", "did you mean stdlib"),
        ("wikitext-103:/no/such/folder", "no such folder"),
    ],
)
def test_bad_names_and_paths(spec: str, message: str):
    with pytest.raises(GdnbenchError, match=message):
        open_corpus(spec)


@pytest.mark.parametrize("compressed", [False, True])
def test_text_that_is_not_utf8_names_file_and_byte(tmp_path: Path, compressed: bool):
    data = "café\n\nab\n".encode() + b"c\xffd\n"
    path = tmp_path / ("bad.txt.xz" if compressed else "bad.txt")
    path.write_bytes(lzma.compress(data) if compressed else data)
    with pytest.raises(GdnbenchError, match=r"bad\.txt.*not UTF-8 at byte 11"):
        list(read_documents(path))


@pytest.mark.parametrize("damage", ["truncated", "not xz"])
def test_a_damaged_xz_file_is_named(tmp_path: Path, damage: str):
    path = tmp_path / "train.txt.xz"
    path.write_bytes(lzma.compress(b"word " * 9999)[:-20] if damage == "truncated" else b"plain text")
    with pytest.raises(GdnbenchError, match=r"train\.txt\.xz: damaged or truncated"):
        list(read_documents(path))


def test_zst_files_of_several_frames_read_like_plain_ones_and_truncation_is_noticed(tmp_path: Path):
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "train.txt.zst"
    data = zstandard.compress(b"one\n\ntw") + zstandard.compress(b"o\nthree")
    path.write_bytes(data)
    assert list(read_documents(path)) == ["one\n", "two\nthree"]
    path.write_bytes(data[:-3])
    with pytest.raises(GdnbenchError, match="truncated zst"):
        list(read_documents(path))
    path.write_bytes(b"plain text")
    with pytest.raises(GdnbenchError, match="damaged zst"):
        list(read_documents(path))


def test_missing_zstandard_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    (tmp_path / "train.txt.zst").write_bytes(b"")
    with pytest.raises(GdnbenchError, match=r'pip install "gdnbench\[zstd\]"'):
        list(read_documents(tmp_path / "train.txt.zst"))


@given(st.text(alphabet="ab \n\r\u2028", max_size=60))
def test_documents_hold_every_line_that_is_not_blank_in_order(tmp_path_factory: pytest.TempPathFactory, text: str):
    path = tmp_path_factory.mktemp("lines") / "x.txt"
    path.write_bytes(text.encode())
    found = list(read_documents(path))
    lines = [line for line in text.split("\n") if line.encode().strip()]
    assert [line for document in found for line in document.removesuffix("\n").split("\n")] == lines
