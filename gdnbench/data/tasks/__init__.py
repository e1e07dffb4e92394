"""Synthetic tasks by name, in the place of a text: ``task:mqar``, ``task:parity``, ``task:s3``, ``task:s5``."""

from collections.abc import Mapping
from typing import Any

from gdnbench.configuration import from_mapping
from gdnbench.data.tasks.recall import Recall
from gdnbench.data.tasks.stream import TaskCorpus, TaskSampler
from gdnbench.data.tasks.task import NOT_ASKED, Case, Sequences, Task
from gdnbench.data.tasks.words import Words
from gdnbench.errors import unknown

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
    "open_task",
]


def open_task(corpus: str, options: Mapping[str, Any], where: str) -> Recall | Words:
    """Return the task ``task:<name>`` with these options; raise with the nearest names where there is none such."""
    name = corpus.partition(":")[2]
    if name not in _TASKS:
        raise unknown("task", name, _TASKS)
    kind, fixed = _TASKS[name]
    return from_mapping(kind, {**options, **fixed}, where)
