"""Token files: right contents, whole or absent, checked when opened, safe to build twice at once."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gdnbench import data
from gdnbench import files as files_module
from gdnbench.data.cache import cache_folder
from gdnbench.data.token_files import open_split, token_dtype, token_file
from gdnbench.data.tokenizers import ByteTokenizer, train_bpe
from gdnbench.errors import GdnbenchError
from gdnbench.files import atomic_file

ROOT = Path(__file__).resolve().parents[2]


def files_of(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "tokens").rglob("*") if path.is_file())


def test_contents_and_manifest(books: Path):
    corpus = data.load(f"text:{books}", "bytes")
    train = corpus.split("train")
    expected = "One line.\nTwo, the café.\n\0Second book.\n\0".encode()
    assert train.tokens.tobytes() == expected
    assert train.tokens.dtype == np.uint8
    manifest = train.manifest
    assert (manifest["documents"], manifest["words"], manifest["bytes"]) == (2, 7, len(expected) - 2)
    assert manifest["tokens"] == len(expected)
    assert manifest["sha256"] == hashlib.sha256(expected).hexdigest()
    assert (manifest["corpus"], manifest["corpus_hash"]) == ("text", corpus.corpus_hash)
    assert (manifest["tokenizer"], manifest["tokenizer_hash"]) == ("bytes", corpus.tokenizer_hash)
    assert manifest["metadata"] == dict(corpus.metadata)
    assert corpus.vocab_size == 256
    assert str(books) not in json.dumps(manifest)


def test_only_what_was_asked_for_is_loaded(books: Path):
    corpus = data.load(f"text:{books}", "bytes", splits=("valid",))
    with pytest.raises(GdnbenchError, match="'train' is not loaded; loaded: valid"):
        corpus.split("train")
    with pytest.raises(GdnbenchError, match="no split 'test'"):
        data.load(f"text:{books}", "bytes", splits=("test",))


def test_bpe_tokens_decode_to_the_documents(books: Path):
    (books / "train-01.txt").write_text("the cat sat on the mat\n\n" * 50)
    corpus = data.load(f"text:{books}", "bpe:260")
    tokens = corpus.split("train").tokens
    assert tokens.dtype == np.uint16
    ends = np.flatnonzero(tokens == corpus.tokenizer.separator)
    assert len(ends) == corpus.split("train").manifest["documents"] == 52
    assert corpus.tokenizer.decode(tokens[: ends[0]]) == "One line.\nTwo, the café.\n"
    assert corpus.tokenizer.byte_lengths[tokens].sum() == corpus.split("train").manifest["bytes"]


def test_the_type_is_the_smallest_that_holds_the_vocabulary():
    assert [token_dtype(size).itemsize for size in (256, 257, 65536, 65537)] == [1, 2, 2, 4]


def test_built_once(books: Path, cache: Path):
    path = data.load(f"text:{books}", "bytes").split("train").tokens.filename
    stamp = Path(path).stat().st_mtime_ns
    data.load(f"text:{books}", "bytes")
    assert Path(path).stat().st_mtime_ns == stamp
    assert files_of(cache) == ["train.bin", "train.json", "valid.bin", "valid.json"]


@pytest.mark.parametrize("damage", ["truncated", "too long", "manifest"])
def test_a_damaged_file_is_set_aside_and_built_again(books: Path, cache: Path, damage: str):
    first = data.load(f"text:{books}", "bytes").split("train")
    path, expected = Path(first.tokens.filename), first.tokens.tobytes()
    if damage == "manifest":
        path.with_suffix(".json").write_text("{")
    else:
        path.write_bytes(expected[:-1] if damage == "truncated" else expected + b"x")
    with pytest.raises(GdnbenchError, match=damage):
        open_split(path, ByteTokenizer())
    with pytest.warns(RuntimeWarning, match=rf"train\.bin: .*{damage}.*train\.bin\.corrupt"):
        again = data.load(f"text:{books}", "bytes").split("train")
    assert again.tokens.tobytes() == expected
    assert path.with_name("train.bin.corrupt").is_file()


def test_another_tokenizer_is_refused(books: Path):
    split = data.load(f"text:{books}", "bytes").split("train")
    other = ByteTokenizer()
    other.name, other.hash = "bpe:8192", "f" * 64
    with pytest.raises(GdnbenchError, match=r"made with tokenizer bytes .* asked for is bpe:8192"):
        open_split(Path(split.tokens.filename), other)


def test_keys_differ_with_each_input():
    paths = {token_file(*key) for key in (("a", "b", "train"), ("a", "c", "train"), ("b", "b", "train"))}
    assert len(paths) == 3


def test_an_empty_split_is_an_error_and_leaves_nothing(books: Path, cache: Path):
    (books / "valid.txt").write_text("\n \n")
    with pytest.raises(GdnbenchError, match="split valid is empty"):
        data.load(f"text:{books}", "bytes", splits=("valid",))
    assert files_of(cache) == []


def test_a_text_that_breaks_off_leaves_nothing(books: Path, cache: Path):
    data.load(f"text:{books}", "bytes", splits=("valid",))
    (books / "train-01.txt").write_bytes(b"good\n\nbad \xff\n")
    with pytest.raises(GdnbenchError, match=r"train-01\.txt: not UTF-8 at byte 10"):
        data.load(f"text:{books}", "bytes", splits=("train",))
    assert files_of(cache) == ["valid.bin", "valid.json"]


def test_a_full_disk_is_one_line_and_leaves_nothing(books: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files_module.os, "fsync", full)
    with pytest.raises(GdnbenchError, match="no space left on device") as caught:
        data.load(f"text:{books}", "bytes")
    assert str(cache) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_file_larger_than_the_limit_of_the_process_leaves_nothing(tmp_path: Path):
    # A real failing write: the kernel refuses what goes beyond the file size limit.
    code = (
        "import resource, signal, sys; from pathlib import Path; from gdnbench.files import atomic_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"with atomic_file(Path({str(tmp_path / 'x.bin')!r})) as file: file.write(bytes(5000))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "x.bin: cannot be written: File too large" in found.stderr
    assert list(tmp_path.glob("*x.bin*")) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, books: Path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GDNBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(GdnbenchError, match=r"cannot be written"):
        data.load(f"text:{books}", "bytes")


def test_a_killed_builder_leaves_no_token_file_and_the_next_one_succeeds(books: Path, cache: Path):
    code = (
        "import sys, time\nfrom gdnbench import data\nfrom gdnbench.data import token_files\n"
        "def slow(documents):\n"
        "    for document in documents:\n"
        "        yield [document]\n"
        "        print('wrote one', flush=True)\n"
        "        time.sleep(60)\n"
        "token_files._batches = slow\n"
        f"data.load('text:{books}', 'bytes')"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "wrote one\n"
        process.send_signal(signal.SIGKILL)
    (left,) = (cache / "tokens").rglob(".train.bin.*.tmp")
    corpus = data.load(f"text:{books}", "bytes")
    assert corpus.split("train").manifest["documents"] == 2
    # Left alone while it may be another process' work, removed when it is a day old.
    assert left.is_file()
    os.utime(left, (time.time() - 90_000,) * 2)
    with atomic_file(Path(corpus.split("train").tokens.filename)) as file:
        file.write(b"x")
    assert not left.exists()


def test_two_processes_building_at_once_agree(books: Path, cache: Path):
    (books / "train-01.txt").write_text("many words here\n\n" * 20_000)
    code = f"from gdnbench import data; print(data.load('text:{books}', 'bytes').split('train').manifest['sha256'])"
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = {process.communicate()[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    tokens = data.load(f"text:{books}", "bytes").split("train").tokens
    assert found == {hashlib.sha256(tokens.tobytes()).hexdigest()}
    assert files_of(cache) == ["train.bin", "train.json", "valid.bin", "valid.json"]


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch):
    assert cache_folder() == Path(os.environ["GDNBENCH_CACHE"])
    monkeypatch.delenv("GDNBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/gdnbench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/gdnbench")


def test_token_values_fit_whatever_tokenizer(books: Path, tmp_path: Path):
    train_bpe(["the cat sat on the mat " * 50], 262).save(str(tmp_path / "tokenizer.json"))
    tokens = data.load(f"text:{books}", f"gpt2:{tmp_path}").split("train").tokens
    assert tokens.max() < 262
