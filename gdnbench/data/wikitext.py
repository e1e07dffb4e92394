"""WikiText-103, in its word-level form with <unk> (v1) and its raw form, from the hub or from a local copy."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gdnbench.data.corpus import SPLITS, Corpus, Source, decode_utf8
from gdnbench.data.hub import HUB_SPLITS, hub_files, hub_revision, local_shards, parquet_texts
from gdnbench.data.text_lines import byte_lines
from gdnbench.errors import GdnbenchError

REPO = "Salesforce/wikitext"
CONFIGS = {"wikitext-103": "wikitext-103-v1", "wikitext-103-raw": "wikitext-103-raw-v1"}
SUFFIXES = {"wikitext-103": "tokens", "wikitext-103-raw": "raw"}
METADATA = {"source": REPO, "document": "one page", "license": "CC BY-SA 3.0"}


def open_wikitext(name: str, folder: Path | None) -> Corpus:
    """Return ``wikitext-103`` or ``wikitext-103-raw`` from ``folder``, or from the hub if that is None.

    A folder holds ``wiki.{train,valid,test}.tokens`` (``.raw`` for the raw form) or the hub's parquet files, directly
    or in a subfolder of the configuration's name; text files are preferred. Any split may be missing, since an
    evaluation needs only its own. A document is a page; joined, the documents give the original file to the byte,
    from either format.
    """
    return _from_hub(name) if folder is None else _from_folder(name, folder)


def is_page_heading(line: str) -> bool:
    """Tell whether ``line`` is `` = Title = ``, a heading of exactly one level.

    Two lines of formulas in the test split look like headings and count as such, as they do in the page-level data
    set of lm-eval's `wikitext` task, which has 62 pages there.
    """
    text = line.strip()
    return text.startswith("= ") and text.endswith(" =") and not text.startswith("= =") and not text.endswith("= =")


def pages(lines: Iterable[str]) -> Iterator[str]:
    """Yield pages: each begins at its heading; blank lines ahead of the very first heading belong to that page."""
    page: list[str] = []
    for line in lines:
        if is_page_heading(line) and any(map(str.strip, page)):
            yield "".join(page)
            page = []
        page.append(line)
    if page:
        yield "".join(page)


def text_pages(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the pages of ``wiki.*.tokens`` or ``wiki.*.raw`` files."""
    return pages(line for path in paths for line in _lines(path))


def parquet_pages(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the pages of the hub's parquet files, whose rows are lines and whose empty rows are blank lines."""
    # The hub's builder emptied the lines that held one space; the original files write those as " \n".
    return pages(row or " \n" for row in parquet_texts(paths))


def _lines(path: Path) -> Iterator[str]:
    offset = 0
    for line in byte_lines(path):
        yield decode_utf8(line, path, offset)
        offset += len(line)


def _from_folder(name: str, folder: Path) -> Corpus:
    if not folder.is_dir():
        raise GdnbenchError(f"corpus {name}: {folder}: no such folder")
    sources: dict[str, Source] = {}
    for place in (folder, folder / name, folder / CONFIGS[name]):
        for split in SPLITS:
            text = place / f"wiki.{split}.{SUFFIXES[name]}"
            if split not in sources and text.is_file():
                sources[split] = Source(files=partial(iter, [text]), read=text_pages)
    kind = SUFFIXES[name]
    if not sources:
        kind = "parquet"
        place = folder / CONFIGS[name] if (folder / CONFIGS[name]).is_dir() else folder
        shards = {split: local_shards(place, split) for split in SPLITS}
        sources = {s: Source(files=partial(iter, paths), read=parquet_pages) for s, paths in shards.items() if paths}
    if not sources:
        raise GdnbenchError(
            f"corpus {name}: {folder}: neither wiki.{{train,valid,test}}.{SUFFIXES[name]} "
            f"nor {CONFIGS[name]}/*.parquet found"
        )
    return Corpus(name=name, metadata={**METADATA, "format": kind}, sources=sources)


def _from_hub(name: str) -> Corpus:
    revision = hub_revision(REPO, name)
    metadata: dict[str, Any] = {**METADATA, "format": "parquet", "revision": revision}
    sources = {
        split: Source(
            files=partial(hub_files, REPO, revision, CONFIGS[name], f"{HUB_SPLITS[split]}-", name), read=parquet_pages
        )
        for split in SPLITS
    }
    return Corpus(name=name, metadata=metadata, sources=sources)
