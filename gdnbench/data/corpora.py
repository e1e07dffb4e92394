"""Corpora by name: ``stdlib``, ``text:<folder>``, ``wikitext-103[:<folder>]`` and the like."""

from collections.abc import Callable
from pathlib import Path

from gdnbench.data.corpus import Corpus
from gdnbench.data.fineweb import open_fineweb_edu
from gdnbench.data.stdlib import open_stdlib
from gdnbench.data.text_folder import open_text_folder
from gdnbench.data.wikitext import open_wikitext
from gdnbench.errors import GdnbenchError, unknown


def open_corpus(spec: str) -> Corpus:
    """Return the corpus that ``name[:path]`` asks for; nothing is read yet but the names of its files.

    Raises `GdnbenchError` for an unknown name, a missing path, or a path that holds no such corpus.
    """
    name, _, path = spec.partition(":")
    if name not in _OPENERS:
        raise unknown("corpus", name, _OPENERS)
    return _OPENERS[name](Path(path).expanduser() if path else None)


def corpus_name(spec: str) -> str:
    """Return the name of ``name[:path]``: what may stand in a record, which holds no machine's path."""
    return spec.partition(":")[0]


def corpus_label(spec: str) -> str:
    """Return ``name[:path]`` as records name it: a text folder by its last part, other corpora without their place.

    The content hash beside it tells two folders of one name apart.
    """
    name, _, path = spec.partition(":")
    return f"text:{Path(path).expanduser().absolute().name}" if name == "text" and path else name


def _stdlib(path: Path | None) -> Corpus:
    if path is not None:
        raise GdnbenchError(f"corpus stdlib takes no path, got {path}; did you mean text:{path}?")
    return open_stdlib()


def _text(path: Path | None) -> Corpus:
    if path is None:
        raise GdnbenchError("corpus text needs a folder: text:<folder>")
    return open_text_folder(path)


_OPENERS: dict[str, Callable[[Path | None], Corpus]] = {
    "stdlib": _stdlib,
    "text": _text,
    "wikitext-103": lambda path: open_wikitext("wikitext-103", path),
    "wikitext-103-raw": lambda path: open_wikitext("wikitext-103-raw", path),
    "fineweb-edu": open_fineweb_edu,
}
