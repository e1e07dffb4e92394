"""WikiText-103 and FineWeb-Edu from local copies in the hub's formats; the hub itself is a fake."""

import sys
import types
from pathlib import Path

import pytest

from gdnbench.data.content_hash import split_hash
from gdnbench.data.corpora import open_corpus
from gdnbench.data.fineweb import split_of
from gdnbench.data.wikitext import is_page_heading, pages
from gdnbench.errors import GdnbenchError

TOKENS = (
    " \n = First = \n \n Some <unk> text . \n = = Part = = \n \n More \u2028 text . \n \n = Second = \n \n End . \n \n"
)


@pytest.fixture
def wikitext(tmp_path: Path) -> Path:
    folder = tmp_path / "tokens"
    folder.mkdir()
    (folder / "wiki.test.tokens").write_bytes(TOKENS.encode())
    return folder


def write_parquet(path: Path, rows: list[str], column: str = "text") -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.table({column: rows}), path)


def hub_rows(text: str) -> list[str]:
    """Rows as the hub has them: a line each, with its end, and the lines that hold only a space emptied."""
    return ["" if not line.strip() else line + "\n" for line in text.split("\n")[:-1]]


def test_pages_start_at_headings_of_one_level_and_join_to_the_file(wikitext: Path):
    documents = list(open_corpus(f"wikitext-103:{wikitext}").documents("test"))
    assert [document.split("=")[1] for document in documents] == [" First ", " Second "]
    assert "".join(documents) == TOKENS


@pytest.mark.parametrize("line", [" = Title = \n", " = Grammar = of = signs = \n"])
def test_headings_of_one_level(line: str):
    assert is_page_heading(line)


@pytest.mark.parametrize("line", [" = = Section = = \n", " = = = Deep = = = \n", " = National record \n", " \n", "=\n"])
def test_lines_that_start_no_page(line: str):
    assert not is_page_heading(line)


def test_text_before_the_first_heading_is_a_page_unless_blank():
    assert list(pages(["intro\n", " = A = \n"])) == ["intro\n", " = A = \n"]
    assert list(pages([" \n", " = A = \n"])) == [" \n = A = \n"]


def test_parquet_and_tokens_files_give_the_same_corpus(wikitext: Path, tmp_path: Path):
    rows = hub_rows(TOKENS)
    # Two shards, the boundary inside a page.
    write_parquet(tmp_path / "hub/wikitext-103-v1/test-00000-of-00002.parquet", rows[:4])
    write_parquet(tmp_path / "hub/wikitext-103-v1/test-00001-of-00002.parquet", rows[4:])
    from_parquet, from_tokens = open_corpus(f"wikitext-103:{tmp_path / 'hub'}"), open_corpus(f"wikitext-103:{wikitext}")
    assert list(from_parquet.documents("test")) == list(from_tokens.documents("test"))
    assert split_hash(from_parquet, "test") == split_hash(from_tokens, "test")
    assert (from_parquet.metadata["format"], from_tokens.metadata["format"]) == ("parquet", "tokens")


def test_a_missing_shard_is_noticed(tmp_path: Path):
    write_parquet(tmp_path / "train-00001-of-00002.parquet", ["x"])
    with pytest.raises(GdnbenchError, match="1 parquet files of split train"):
        open_corpus(f"wikitext-103:{tmp_path}")


def test_the_raw_form_has_its_own_files(tmp_path: Path):
    (tmp_path / "wiki.valid.raw").write_text(" = A = \n")
    assert open_corpus(f"wikitext-103-raw:{tmp_path}").splits == ("valid",)
    with pytest.raises(GdnbenchError, match=r"neither wiki.*\.tokens nor wikitext-103-v1/\*\.parquet"):
        open_corpus(f"wikitext-103:{tmp_path}")


def test_a_folder_without_train_is_enough_until_train_is_asked_for(wikitext: Path):
    corpus = open_corpus(f"wikitext-103:{wikitext}")
    assert corpus.splits == ("test",)
    with pytest.raises(GdnbenchError, match="no split 'train' here; found: test"):
        corpus.documents("train")


def test_fineweb_is_split_by_the_hash_of_each_document(tmp_path: Path):
    rows = [f"document {number}" for number in range(9000)]
    write_parquet(tmp_path / "sample/10BT/000_00000.parquet", rows[:5000])
    write_parquet(tmp_path / "sample/10BT/001_00000.parquet", rows[5000:])
    corpus = open_corpus(f"fineweb-edu:{tmp_path}")
    found = {split: list(corpus.documents(split)) for split in corpus.splits}
    assert all(found.values())
    assert sorted(text for texts in found.values() for text in texts) == sorted(rows)
    assert all(split_of(text) == split for split, texts in found.items() for text in texts)
    assert len(found["train"]) > 0.99 * len(rows)


def test_wrong_parquet_files_are_named(tmp_path: Path):
    write_parquet(tmp_path / "a.parquet", ["x"], column="content")
    with pytest.raises(GdnbenchError, match=r"a\.parquet: no column 'text'; found content"):
        list(open_corpus(f"fineweb-edu:{tmp_path}").documents("train"))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(GdnbenchError, match=r"a\.parquet: not readable as parquet"):
        list(open_corpus(f"fineweb-edu:{tmp_path}").documents("train"))
    with pytest.raises(GdnbenchError, match=r"no \*.parquet there"):
        open_corpus(f"fineweb-edu:{tmp_path / 'none'}")


def fake_hub(folder: Path, downloads: list[str]) -> types.ModuleType:
    """A stand-in for `huggingface_hub` that serves ``folder`` and notes each download."""

    class HfApi:
        def dataset_info(self, repo: str) -> types.SimpleNamespace:
            return types.SimpleNamespace(sha="c0ffee")

        def list_repo_files(self, repo: str, *, repo_type: str, revision: str) -> list[str]:
            assert (repo_type, revision) == ("dataset", "c0ffee")
            return [str(path.relative_to(folder)) for path in folder.rglob("*.*")]

    def download(repo: str, path: str, *, repo_type: str, revision: str) -> str:
        downloads.append(path)
        return str(folder / path)

    module = types.ModuleType("huggingface_hub")
    module.HfApi, module.hf_hub_download = HfApi, download
    return module


def test_the_hub_is_asked_for_each_file_only_when_it_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = [f"sample/10BT/00{number}_00000.parquet" for number in range(3)]
    for name in names:
        write_parquet(tmp_path / name, [f"{name} {row}" for row in range(10)])
    downloads: list[str] = []
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake_hub(tmp_path, downloads))
    corpus = open_corpus("fineweb-edu")
    assert corpus.metadata["revision"] == "c0ffee"
    documents = corpus.documents("train")
    next(documents)
    assert downloads == names[:1]
    assert len(list(documents)) == 29
    assert downloads == names


def test_wikitext_from_the_hub_downloads_only_the_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for split in ("train", "validation", "test"):
        write_parquet(tmp_path / f"wikitext-103-v1/{split}-00000-of-00001.parquet", hub_rows(TOKENS))
    downloads: list[str] = []
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake_hub(tmp_path, downloads))
    assert "".join(open_corpus("wikitext-103").documents("valid")) == TOKENS
    assert downloads == ["wikitext-103-v1/validation-00000-of-00001.parquet"]


def test_an_unreachable_hub_says_how_to_go_without(monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("huggingface_hub")

    def fail() -> None:
        raise ConnectionError("no route to host\nand a long trace")

    module.HfApi = fail
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    with pytest.raises(GdnbenchError, match=r"\(no route to host\); give a local copy as wikitext-103:<folder>"):
        open_corpus("wikitext-103")


@pytest.mark.parametrize("module", ["huggingface_hub", "pyarrow"])
def test_missing_extras_say_what_to_install(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if module == "pyarrow":
        (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(GdnbenchError, match=rf'needs {module}: pip install "gdnbench\[hub\]"'):
        list(open_corpus(f"fineweb-edu:{tmp_path}" if module == "pyarrow" else "fineweb-edu").documents("train"))
