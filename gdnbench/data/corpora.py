"""Corpora by name: ``stdlib``, ``text:<folder>[#<shards>]``, ``wikitext-103[:<folder>]`` and the like."""

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
    return _OPENERS[name](path or None)


def corpus_name(spec: str) -> str:
    """Return the name of ``name[:path]``: what may stand in a record, which holds no machine's path."""
    return spec.partition(":")[0]


def corpus_label(spec: str) -> str:
    """Return ``name[:path]`` as records name it: a text folder by its last part, other corpora without their place.

    A task (``task:<name>``, `gdnbench.data.tasks`) has none.

    The content hash beside it tells two folders of one name apart.
    """
    name, _, path = spec.partition(":")
    if name == "task":
        return spec
    if name != "text" or not path:
        return name
    folder, mark, shards = path.partition("#")
    return f"text:{Path(folder).expanduser().absolute().name}{mark}{shards}"


def _stdlib(path: str | None) -> Corpus:
    if path is not None:
        raise GdnbenchError(f"corpus stdlib takes no path, got {path}; did you mean text:{path}?")
    return open_stdlib()


def _text(path: str | None) -> Corpus:
    if path is None:
        raise GdnbenchError("corpus text needs a folder: text:<folder>")
    folder, _, shards = path.partition("#")
    return open_text_folder(Path(folder).expanduser(), tuple(filter(None, shards.split(","))))


def _task(path: str | None) -> Corpus:
    raise GdnbenchError(
        f"corpus task:{path or '<name>'} is no text: it is trained on and measured as an experiment of kind task"
    )


def _folder(path: str | None) -> Path | None:
    return Path(path).expanduser() if path else None


_OPENERS: dict[str, Callable[[str | None], Corpus]] = {
    "stdlib": _stdlib,
    "text": _text,
    "task": _task,
    "wikitext-103": lambda path: open_wikitext("wikitext-103", _folder(path)),
    "wikitext-103-raw": lambda path: open_wikitext("wikitext-103-raw", _folder(path)),
    "fineweb-edu": lambda path: open_fineweb_edu(_folder(path)),
}
