"""Evaluating a trained model by tasks of lm-eval; each task's results are a record beside the run's."""

import dataclasses
import datetime
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval
import torch
from lm_eval.tasks import TaskManager

from gdnbench.errors import GdnbenchError
from gdnbench.lm_eval import tasks
from gdnbench.lm_eval.model import GdnbenchLM
from gdnbench.results import Record
from gdnbench.results.record import metric
from gdnbench.runs.evaluation import keep
from gdnbench.runs.trained import find_run

# Units of the harness's metrics; all others are numbers without one.
UNITS = {
    "acc": "share", "acc_norm": "share", "exact_match": "share", "perplexity": "perplexity by task",
    "word_perplexity": "perplexity by word of the task", "byte_perplexity": "perplexity by byte of the task",
    "bits_per_byte": "bit by byte of the task",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is evaluated: a run, tasks, and how the harness is to ask.

    Attributes:
        run: the run (`gdnbench.runs.trained.find_run`).
        names: names of tasks or groups.
        include_path: a folder with tasks of one's own.
        limit: only the first examples of each task; None: all.
        num_fewshot: examples in a context; None: as the task has it.
        model: further arguments of `GdnbenchLM`.
    """

    run: str
    names: tuple[str, ...]
    include_path: Path | None = None
    limit: int | None = None
    num_fewshot: int | None = None
    model: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The stored records, and for each task that could not be evaluated a line why."""

    records: list[Record]
    failed: list[str]


def evaluate(asked: Asked, *, say: Callable[[str], object] = lambda line: None) -> Outcome:
    """Evaluate a model by each task and store what is found, a record a task (of a group: one for each task in it).

    A task that fails, as where its data cannot be had, does not keep others from being evaluated.

    Raises:
        GdnbenchError: the run, a name or a number does not allow it.
    """
    if not asked.names:
        raise GdnbenchError("--tasks: expected the name of at least one task")
    model = GdnbenchLM(asked.run, **asked.model)
    torch.set_num_threads(model.spec.threads)
    manager = tasks.manager(asked.names, asked.include_path)
    records: list[Record] = []
    failed = []
    for name in manager.match_tasks(list(asked.names)):
        started, clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
        say(f"{name}: begun")
        try:
            results = _harness(model, name, manager, asked)
        except GdnbenchError:
            raise
        except Exception as error:  # whatever a task's code, its data or the hub raise
            failed.append(f"{name}: {_line(error)}")
            continue
        took = time.perf_counter() - clock
        for task in sorted(results["samples"]):
            records.append(_store(model, asked, task, results, started, took / len(results["samples"])))
    return Outcome(records=records, failed=failed)


def _harness(model: GdnbenchLM, name: str, manager: TaskManager, asked: Asked) -> dict[str, Any]:
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=[name],
        num_fewshot=asked.num_fewshot,
        limit=asked.limit,
        task_manager=manager,
        log_samples=True,
    )
    assert found is not None
    return dict(found)


def _store(
    model: GdnbenchLM, asked: Asked, task: str, results: dict[str, Any], started: datetime.datetime, seconds: float
) -> Record:
    """Write and return the record of a task."""
    config = results["configs"][task]
    question = {
        "task": task,
        "version": results["versions"].get(task),
        "num_fewshot": results["n-shot"].get(task),
        "limit": asked.limit,
        "window": model.max_length,
        "dtype": model.spec.dtype,
        "harness": f"lm_eval {lm_eval.__version__}",
    }
    about = {
        **question,
        "output_type": config.get("output_type"),
        "dataset": _words(config.get("dataset_path"), config.get("dataset_name")),
        "examples": results["n-samples"][task]["effective"],
        "requests": sum(_requests(results["samples"][task])),
    }
    store, _ = find_run(asked.run, Path(asked.model.get("results", "results")))
    return keep(
        store,
        model.record,
        model.spec,
        model.model,
        kind="lm_eval",
        of=task,
        asked=question,
        metrics=dict(_metrics(results["results"][task])),
        about=about,
        started=started,
        seconds=seconds,
    )


def _metrics(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the numbers of a task: by name, and by the filter of the answers where that is not ``none``."""
    for key, value in found.items():
        name, comma, kind = key.partition(",")
        if comma and isinstance(value, (int, float)) and math.isfinite(value):
            of = name.removesuffix("_stderr")
            unit = f"standard error of {of}" if of != name else UNITS.get(name, "number")
            yield (name if kind == "none" else f"{name} ({kind})"), metric(float(value), unit)


def _requests(samples: Sequence[dict[str, Any]]) -> Iterator[int]:
    """Yield how many requests each example of a task made; a sample stands once for each filter."""
    filters = {sample["filter"] for sample in samples}
    first = min(filters, default=None)
    yield from (len(sample["resps"]) for sample in samples if sample["filter"] == first)


def _line(error: Exception) -> str:
    """Return an error as one line."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:300]}" if said else type(error).__name__


def _words(*parts: Any) -> str:
    return " ".join(str(part) for part in parts if part)
