"""The harness's tasks by name, its own and those of a folder."""

import fnmatch
from collections.abc import Collection, Sequence
from pathlib import Path

from lm_eval.tasks import TaskManager

from gdnbench.errors import GdnbenchError, nearest


def manager(names: Sequence[str], include_path: Path | None) -> TaskManager:
    """Return what knows all of ``names``: the folder alone where that has them, since the harness's index is long.

    Raises:
        GdnbenchError: no such folder, or a name that nobody has, with the nearest ones.
    """
    if include_path is not None:
        if not include_path.is_dir():
            raise GdnbenchError(f"--include-path {include_path}: no such folder; it holds tasks as .yaml files")
        own = TaskManager(include_path=str(include_path), include_defaults=False)
        if not missing(names, own.all_tasks):
            return own
    found = TaskManager(include_path=None if include_path is None else str(include_path))
    for name in missing(names, found.all_tasks):
        raise unknown_task(name, found.all_tasks)
    return found


def missing(names: Sequence[str], known: Collection[str]) -> list[str]:
    """Return those of the names, or patterns such as ``arc_*``, that are not there."""
    return [name for name in names if name not in known and not fnmatch.filter(known, name)]


def unknown_task(name: str, known: Collection[str]) -> GdnbenchError:
    """Return the error for a task that is not there, with the nearest names."""
    close = nearest(name, known)
    hint = f"did you mean {' or '.join(close)}?" if close else "`lm_eval ls tasks` lists all"
    return GdnbenchError(f"unknown lm-eval task {name!r}; {hint}")
