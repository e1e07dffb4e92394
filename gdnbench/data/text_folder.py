"""A folder of text files as a corpus: the user's own data, plain or compressed."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from gdnbench.data.corpus import SPLITS, Corpus, Source, decode_utf8
from gdnbench.data.text_lines import byte_lines
from gdnbench.errors import GdnbenchError

SUFFIXES = (".txt", ".txt.xz", ".txt.zst")
# `val` also covers `valid` and `validation`.
PREFIXES = {"train": "train", "valid": "val", "test": "test"}


def open_text_folder(folder: Path, shards: tuple[str, ...] = ()) -> Corpus:
    """Return the corpus of the ``.txt``, ``.txt.xz`` and ``.txt.zst`` files of ``folder``.

    A file belongs to the split that its name, or the subfolder of ``folder`` it lies in, begins with: ``train``,
    ``val`` (also ``valid``, ``validation``) or ``test``; other files are not part of the corpus. A document is a
    maximal run of non-blank lines, so a blank line ends a document and one line may hold a whole paragraph.
    With ``shards``, only the train files whose names begin with one of them are part of the corpus.
    Raises `GdnbenchError` if the folder, its train split, its valid split or a shard is missing.
    """
    if not folder.is_dir():
        raise GdnbenchError(f"corpus text: {folder}: no such folder; give one as text:<folder>")
    files = {split: paths for split in SPLITS if (paths := _split_files(folder, split))}
    for split in ("train", "valid"):
        if split not in files:
            found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
            raise GdnbenchError(
                f"corpus text: {folder}: no file of the {split} split; found {found}; "
                f"expected names like {split}*{{{','.join(SUFFIXES)}}} or a subfolder {split}/"
            )
    if shards:
        files["train"] = _shards(folder, files["train"], shards)
    metadata = {
        "folder": folder.resolve().name,
        "files": sum(map(len, files.values())),
        "document": "a run of non-blank lines",
    }
    sources = {split: Source(files=partial(iter, paths), read=_documents) for split, paths in files.items()}
    return Corpus(name="text", metadata=metadata, sources=sources)


def _split_files(folder: Path, split: str) -> list[Path]:
    paths = []
    for path in sorted(folder.rglob("*")):
        first = path.relative_to(folder).parts[0].lower()
        if path.is_file() and path.name.lower().endswith(SUFFIXES) and first.startswith(PREFIXES[split]):
            paths.append(path)
    return paths


def _shards(folder: Path, paths: list[Path], shards: tuple[str, ...]) -> list[Path]:
    """Return the train files that belong to the named shards; raise where a name fits none of them."""
    names = {path: path.relative_to(folder).as_posix().removeprefix("train/") for path in paths}
    if unmet := [shard for shard in shards if not any(name.startswith(shard) for name in names.values())]:
        raise GdnbenchError(
            f"corpus text: {folder}: no train file begins with {', '.join(unmet)}; found {', '.join(names.values())}"
        )
    return [path for path in paths if names[path].startswith(shards)]


def _documents(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        yield from read_documents(path)


def read_documents(path: Path) -> Iterator[str]:
    """Yield the maximal runs of non-blank lines of one file, each with its line ends.

    Raises `GdnbenchError` for a file that is unreadable, damaged or not UTF-8 (with the offset in the plain text).
    """
    lines: list[bytes] = []
    start = offset = 0
    for line in byte_lines(path):
        if line.strip():
            if not lines:
                start = offset
            lines.append(line)
        elif lines:
            yield decode_utf8(b"".join(lines), path, start)
            lines = []
        offset += len(line)
    if lines:
        yield decode_utf8(b"".join(lines), path, start)
