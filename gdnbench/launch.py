"""What a command does with a preset: choose it with overrides, look ahead, run it, and read its coordinate check."""

import dataclasses
import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from gdnbench import outlook as ahead
from gdnbench.configuration import from_mapping, to_mapping
from gdnbench.data import corpus_label
from gdnbench.environment import check_device, check_device_name, usable_cores
from gdnbench.errors import GdnbenchError, unknown
from gdnbench.files import write_text
from gdnbench.models.config import parse_backend
from gdnbench.models.parametrization import Parametrization, label
from gdnbench.models.parametrization.document import rows_as_text
from gdnbench.outlook import Outlook
from gdnbench.plan import estimate
from gdnbench.plan.expand import expand
from gdnbench.plan.sections import merged
from gdnbench.plan.spec import Data
from gdnbench.presets import Preset, load_preset, preset_names
from gdnbench.presets.load import check_preset
from gdnbench.results import Record, Store
from gdnbench.runs import texts
from gdnbench.runs.limit import TimeLimit
from gdnbench.runs.reproduce import Summary, loss_of
from gdnbench.runs.reproduce import reproduce as reproduce_runs
from gdnbench.runs.view import BarsView, PlainView
from gdnbench.runs.worker import Settings


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A preset with the command's overrides, and the name of the set that goes with both."""

    preset: Preset
    set: str


def choose(
    name: str,
    *,
    corpus: str | None = None,
    tokenizer: str | None = None,
    device: str | None = None,
    backend: str | None = None,
    also: Sequence[str] = (),
) -> Chosen:
    """Return a preset with overrides; a set of overridden runs has a name of its own, so that they never mix.

    What says no more than where a corpus lies is no override: ``corpus`` where records would name it as they name the
    preset's, and ``also``, which does so for the corpora that the preset uses beside that (``name:<folder>``).
    """
    preset = placed(load_preset(name), also)
    given = {"corpus": corpus, "tokenizer": tokenizer, "device": device, "backend": backend}
    chosen = {key: value for key, value in given.items() if value is not None}
    same = corpus is not None and corpus_label(corpus) == corpus_label(preset.corpus)
    suffix = "".join(f"-{_slug(value)}" for key, value in chosen.items() if not (key == "corpus" and same))
    if device is not None:
        check_device_name(device)
    if chosen.pop("backend", None) is not None:
        preset = dataclasses.replace(preset, model={**preset.model, "backend": parse_backend(str(backend))})
    return Chosen(preset=dataclasses.replace(preset, **chosen), set=preset.name + suffix)  # type: ignore[arg-type]


def placed(preset: Preset, also: Sequence[str]) -> Preset:
    """Return the preset with its experiments' corpora, and those evaluated besides, at the places ``also`` names."""
    places = {corpus_label(entry): entry for entry in also}
    named: set[str] = set()

    def place(entry: str) -> str:
        named.add(corpus_label(entry))
        return places.get(corpus_label(entry), entry)

    preset = _relocated(preset, place)
    for name, entry in places.items():
        if name not in named:
            found = ", ".join(sorted(named)) or "nothing"
            raise GdnbenchError(
                f"--also {entry}: preset {preset.name} uses {found} beside its own text; "
                "name others in its evaluation: {also: [...]} or as an experiment's corpus"
            )
    return preset


def _relocated(preset: Preset, place: Callable[[str], str]) -> Preset:
    """Return the preset with ``place`` applied to every corpus beside its own."""

    def at(evaluation: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**evaluation, "also": list(map(place, evaluation["also"]))} if "also" in evaluation else evaluation

    experiments = tuple(
        dataclasses.replace(e, evaluation=at(e.evaluation), corpus=None if e.corpus is None else place(e.corpus))
        for e in preset.experiments
    )
    return dataclasses.replace(preset, evaluation=at(preset.evaluation), experiments=experiments)


def _slug(value: str) -> str:
    """Return the telling end of a name or path, as letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", value.rstrip("/").rpartition("/")[2].lower()).strip("-")


def outlook(chosen: Chosen, root: Path, name: str, workers: int | None, only: Sequence[str] = ()) -> Outlook:
    """Look ahead at a chosen preset (`gdnbench.outlook.outlook`)."""
    return ahead.outlook(chosen.preset, root, name, _workers(chosen, workers), only)


def experiments(preset: Preset, names: str) -> tuple[str, ...]:
    """Return experiments named in a text, separated by commas; raise with the nearest names where one is not there."""
    known = [experiment.name for experiment in preset.experiments]
    chosen = tuple(filter(None, map(str.strip, names.split(","))))
    for name in chosen:
        if name not in known:
            raise unknown(f"experiment of {preset.name}", name, known)
    return chosen


def repeating(chosen: Chosen, epochs: float | None) -> Chosen:
    """Return the preset with another limit on how often a run may see its corpus; None: its own."""
    if epochs is None:
        return chosen
    return dataclasses.replace(chosen, preset=dataclasses.replace(chosen.preset, max_epochs=epochs))


def check_machine(chosen: Chosen) -> None:
    """Raise unless the preset's device is here and computes in its type; the message says what it would take."""
    preset = chosen.preset
    try:
        check_device(preset.device, preset.dtype)
    except GdnbenchError as error:
        peak = max(estimate.peak_gib(spec) for spec in expand(preset, {}).runs)
        raise GdnbenchError(
            f"preset {preset.name}: {error}; it takes an NVIDIA GPU with {preset.dtype} and about {peak:.1f} GiB of "
            f"memory (`gdnbench plan {preset.name}` looks ahead without one)"
        ) from None


def left_line(summary: Summary, limit: TimeLimit | None, command: Sequence[str]) -> str:
    """Return why it ended, what is left, and the command that goes on."""
    why = "time is up" if limit is None or limit.left <= 0 else "no other run is expected to end in time"
    return (
        f"{why}: about {summary.left} runs are left, {summary.left_seconds / 60:.1f} min of work one after the other; "
        f"go on with: {shlex.join(command)}"
    )


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
    speed = ahead.known_speeds(root, records, chosen.preset.device)
    data = Data(corpus=chosen.preset.corpus, tokenizer=chosen.preset.tokenizer).placeless()
    published = dataclasses.replace(chosen.preset, corpus=data.corpus, tokenizer=data.tokenizer)
    published = _relocated(published, corpus_label)
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
            workers=_workers(chosen, workers),
            view=view,
            expected=lambda spec: estimate.seconds(spec, speed),
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
        switches = ", ".join(f"{name}={choice}" for name, choice in sorted(arm.switches.items()))
        title = f"{label(arm.table)}: {arm.table}{f' with {switches}' if switches else ''}"
        rules[title] = rows_as_text(Parametrization(table=arm.table, switches=arm.switches))
    write_text(store.folder / "presets" / f"{chosen.preset.name}.rules.json", json.dumps(rules, indent=1) + "\n")


def _losses(records: Iterable[Record]) -> dict[str, float]:
    return {record.run_id: loss_of(record) for record in records}


def _workers(chosen: Chosen, workers: int | None) -> int:
    if workers is not None and workers < 1:
        raise GdnbenchError(f"--workers {workers}: expected at least 1")
    default = 1 if chosen.preset.device == "cuda" else max(1, usable_cores() // chosen.preset.threads)
    return workers or default


def better_preset(preset: Preset) -> str | None:
    """Return a hint where a GPU is found and the preset does not use it."""
    import torch

    if preset.suits == "gpu" or not torch.cuda.is_available():
        return None
    others = [name for name in preset_names() if load_preset(name).suits == "gpu"]
    names = ", ".join(others) or "none yet in this version"
    return f"note: {torch.cuda.get_device_name()} found; presets made for a GPU: {names}"


def coordinate_check(
    *,
    arch: str,
    table: str,
    switches: Mapping[str, str],
    widths: Sequence[int],
    base_width: int,
    geometry: str,
    block: str,
    seeds: int,
    after_steps: Sequence[int],
    lr: float,
    optimizer: str,
    corpus: str | None,
    tokenizer: str | None,
    device: str | None,
    backend: str | None,
) -> Chosen:
    """Return the preset of one coordinate check, with the constants of the ``quick`` preset."""
    quick = load_preset("quick")
    model: dict[str, Any] = {"base_width": base_width, "geometry": geometry, "block": block}
    if backend:
        model["backend"] = parse_backend(backend)
    values: dict[str, Any] = {
        "name": "coord-check",
        "title": f"Coordinate check of {arch} under {table}",
        "about": "One architecture under one parametrization.",
        "corpus": corpus or quick.corpus,
        "tokenizer": tokenizer or quick.tokenizer,
        "device": device or "cpu",
        "model": merged(quick.model, model),
        "optimizer": {"name": optimizer, "lr": lr},
        "coordinates": {"after_steps": list(after_steps)},
        "experiments": [
            {
                "name": "coordinates",
                "kind": "coord_check",
                "widths": list(widths),
                "seeds": list(range(seeds)),
                "arms": [{"name": f"{arch} {table}", "arch": arch, "table": table, "switches": dict(switches)}],
            }
        ],
    }
    preset = from_mapping(Preset, values, "coord-check")
    check_preset(preset, "coord-check")
    return Chosen(preset=preset, set="coord-check")


def coordinate_verdict(root: Path, name: str, chosen: Chosen) -> list[str]:
    """Return the slopes of a stored coordinate check with their intervals, and the verdict, as lines.

    Flat: every judged slope lies inside the bound with its whole interval. Not flat: some slope lies wholly outside.
    """
    from gdnbench.report.activations import analyse
    from gdnbench.report.statistics import position
    from gdnbench.report.study import read_study
    from gdnbench.report.verdicts.activations import BOUND

    study = read_study(Store(root, name))
    check = analyse(study.arm(chosen.preset.experiments[0].name, chosen.preset.experiments[0].arms[0].name), study)
    lines = [f"{'site':36} {'steps':>5} {'slope':>7} {'95% interval':>18}  verdict"]
    places = []
    for entry in check.slopes:
        if entry.slope is None:
            continue
        place = position(entry.slope, -BOUND, BOUND)
        if not entry.exempt:
            places.append(place)
        low, high = entry.slope.low, entry.slope.high
        limits = "one seed" if low is None or high is None else f"{low:+.2f} to {high:+.2f}"
        said = f"not judged ({entry.exempt})" if entry.exempt else place
        lines.append(f"{entry.site:36} {entry.after_steps:>5} {entry.slope.mean:>+7.2f} {limits:>18}  {said}")
    counts = ", ".join(f"{places.count(place)} {place}" for place in dict.fromkeys(places))
    return [*lines, f"{len(places)} slopes judged by +-{BOUND:g}: {counts}; {_overall(places)}"]


def _overall(places: Sequence[str]) -> str:
    if places and all(place == "inside" for place in places):
        return "verdict: flat over width"
    if {"below", "above"} & set(places):
        return "verdict: not flat over width"
    return "verdict: undecided, more seeds are needed"
