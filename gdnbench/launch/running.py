"""Running what is missing of a chosen preset, with what the report says of the preset stored beside its records."""

import dataclasses
import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml
from rich.console import Console

from gdnbench.configuration import to_mapping
from gdnbench.data import corpus_label
from gdnbench.files import write_text
from gdnbench.launch.ahead import known_speeds, outlook
from gdnbench.launch.choosing import Chosen, relocated, workers_of
from gdnbench.models.parametrization import Parametrization, label
from gdnbench.models.parametrization.document import rows_as_text
from gdnbench.plan import estimate
from gdnbench.plan.expand import expand
from gdnbench.plan.spec import Data
from gdnbench.results import Record, Store
from gdnbench.runs import texts
from gdnbench.runs.limit import TimeLimit
from gdnbench.runs.reproduce import Summary, loss_of
from gdnbench.runs.reproduce import reproduce as reproduce_runs
from gdnbench.runs.view import BarsView, PlainView
from gdnbench.runs.worker import Settings
from gdnbench.words import are, parametrization, plural


def run(
    chosen: Chosen,
    root: Path,
    name: str,
    *,
    workers: int | None = None,
    deterministic: bool = False,
    changed_code: str = "refuse",
    mixers: Sequence[Path] = (),
    limit: TimeLimit | None = None,
    only: Sequence[str] = (),
    on_trial: Sequence[str] = (),
    console: Console,
) -> Summary:
    """Run what is missing, with the preset as it was run stored beside the results.

    Args:
        chosen: the preset.
        root: folder of the result sets.
        name: name of the set.
        workers: runs at once; None: as many as the machine takes.
        deterministic: whether PyTorch refuses operations that are not.
        changed_code: what to do with a checkpoint that other sources wrote (`gdnbench.runs.beginning.begin`).
        mixers: files of mixers from outside the repository.
        limit: when to stop; None: when all is done.
        only: names of the experiments to run; all where none is given.
        on_trial: architectures whose refused runs have failed, while the others go on.
        console: where progress is shown.

    Raises:
        GdnbenchError: a run was refused; KeyboardInterrupt: asked to stop. Either way all others are saved.
    """
    store = Store(root, name)
    records = store.records()
    known = [spec for spec in expand(chosen.preset, _losses(records)).runs if not only or spec.experiment in only]
    texts.check_content(known, records, store)
    texts.check_epochs(known, chosen.preset.max_epochs)
    speed, at_once = known_speeds(root, records, chosen.preset.device), workers_of(chosen, workers)
    data = Data(corpus=chosen.preset.corpus, tokenizer=chosen.preset.tokenizer).placeless()
    published = dataclasses.replace(chosen.preset, corpus=data.corpus, tokenizer=data.tokenizer)
    published = relocated(published, corpus_label)
    snapshot = yaml.safe_dump(to_mapping(published), sort_keys=False, allow_unicode=True)
    write_text(store.folder / "presets" / f"{chosen.preset.name}.yaml", snapshot)
    write_rules(chosen, store)
    settings = Settings(
        root=root.resolve(),
        set=name,
        threads=chosen.preset.threads,
        deterministic=deterministic,
        changed_code=changed_code,
        mixers=tuple(path.resolve() for path in mixers),
    )
    view = BarsView(console) if console.is_terminal else PlainView(console)
    with view:
        summary = reproduce_runs(
            chosen.preset,
            store,
            settings,
            workers=at_once,
            view=view,
            expected=lambda spec: estimate.seconds(spec, speed, at_once),
            limit=limit,
            only=only,
            on_trial=on_trial,
        )
    write_plan(chosen, store)
    write_left(chosen, root, store)
    return summary


def write_left(chosen: Chosen, root: Path, store: Store) -> None:
    """Store what the preset has left to run and what that is expected to take, for the report."""
    ahead_of_us = outlook(chosen, root, store.name, None)
    content = {"speed": ahead_of_us.rate_source, "device": chosen.preset.device, "rows": ahead_of_us.left()}
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_text(store.folder / "presets" / f"{chosen.preset.name}.left.json", text)


def write_plan(chosen: Chosen, store: Store) -> None:
    """Store the ids of the runs that the preset consists of, so that a report leaves out what is no part of it."""
    plan = expand(chosen.preset, _losses(store.records()))
    ids = sorted(spec.run_id for spec in plan.runs)
    write_text(store.folder / "presets" / f"{chosen.preset.name}.plan.json", json.dumps(ids, indent=1) + "\n")


def write_rules(chosen: Chosen, store: Store) -> None:
    """Store the rules of the preset's parametrizations as text, which a report shows as they were."""
    arms = [arm for experiment in chosen.preset.experiments for arm in experiment.arms]
    rules = {}
    for arm in arms:
        title = f"{label(arm.table)}: {parametrization(arm.table, arm.switches)}"
        rules[title] = rows_as_text(Parametrization(table=arm.table, switches=arm.switches))
    write_text(store.folder / "presets" / f"{chosen.preset.name}.rules.json", json.dumps(rules, indent=1) + "\n")


def _losses(records: Iterable[Record]) -> dict[str, float]:
    return {record.run_id: loss_of(record) for record in records}


def left_line(summary: Summary, limit: TimeLimit | None, command: Sequence[str]) -> str:
    """Return why it ended, what is left, and the command that goes on."""
    why = "time is up" if limit is None or limit.left <= 0 else "no other run is expected to end in time"
    left = f"about {plural(summary.left, 'run')} {are(summary.left)} left, {summary.left_seconds / 60:.1f} min of work"
    return f"{why}: {left}; go on with: {shlex.join(command)}"
