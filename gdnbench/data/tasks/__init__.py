"""Synthetic tasks by name, in the place of a text: ``task:mqar``, ``task:parity``, ``task:s3``, ``task:s5``."""

from collections.abc import Mapping
from typing import Any

from gdnbench.configuration import from_mapping
from gdnbench.data.tasks.recall import Recall
from gdnbench.data.tasks.stream import TaskCorpus, TaskSampler
from gdnbench.data.tasks.task import NOT_ASKED, Case, Sequences, Task
from gdnbench.data.tasks.words import Words
from gdnbench.errors import unknown

PREFIX = "task:"
_TASKS: dict[str, tuple[type[Recall] | type[Words], dict[str, Any]]] = {
    "mqar": (Recall, {}),
    "parity": (Words, {"group": "z2"}),
    "s3": (Words, {"group": "s3"}),
    "s5": (Words, {"group": "s5"}),
}

__all__ = [
    "NOT_ASKED",
    "Case",
    "Recall",
    "Sequences",
    "Task",
    "TaskCorpus",
    "TaskSampler",
    "Words",
    "is_task",
    "open_task",
]


def is_task(corpus: str) -> bool:
    """Return whether a corpus is a task by its name."""
    return corpus.startswith(PREFIX)


def open_task(corpus: str, options: Mapping[str, Any], where: str) -> Recall | Words:
    """Return the task ``task:<name>`` with these options; raise with the nearest names where there is none such."""
    name = corpus.removeprefix(PREFIX)
    if name not in _TASKS:
        raise unknown("task", name, _TASKS)
    kind, fixed = _TASKS[name]
    return from_mapping(kind, {**options, **fixed}, where)
