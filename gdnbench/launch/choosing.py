"""Choosing a preset, with a command's overrides, and what stands against running it here."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gdnbench.data import corpus_label
from gdnbench.environment import check_device, check_device_name, usable_cores
from gdnbench.errors import GdnbenchError, unknown
from gdnbench.models.config import parse_backend
from gdnbench.plan import estimate
from gdnbench.plan.expand import expand
from gdnbench.presets import Preset, load_preset, preset_names


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

    preset = relocated(preset, place)
    for name, entry in places.items():
        if name not in named:
            found = ", ".join(sorted(named)) or "nothing"
            raise GdnbenchError(
                f"--also {entry}: preset {preset.name} uses {found} beside its own text; "
                "name others in its evaluation: {also: [...]} or as an experiment's corpus"
            )
    return preset


def relocated(preset: Preset, place: Callable[[str], str]) -> Preset:
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


def better_preset(preset: Preset) -> str | None:
    """Return a hint where a GPU is found and the preset does not use it."""
    import torch

    if preset.suits == "gpu" or not torch.cuda.is_available():
        return None
    others = [name for name in preset_names() if load_preset(name).suits == "gpu"]
    names = ", ".join(others) or "none yet in this version"
    return f"note: {torch.cuda.get_device_name()} found; presets made for a GPU: {names}"


def workers_of(chosen: Chosen, workers: int | None) -> int:
    """Return how many runs are made at once; without a wish, one on a GPU, else as many as the cores take."""
    if workers is not None and workers < 1:
        raise GdnbenchError(f"--workers {workers}: expected at least 1")
    default = 1 if chosen.preset.device == "cuda" else max(1, usable_cores() // chosen.preset.threads)
    return workers or default
