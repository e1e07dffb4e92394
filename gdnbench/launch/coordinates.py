"""A coordinate check as a preset of its own, and its verdict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gdnbench.configuration import from_mapping
from gdnbench.launch.choosing import Chosen
from gdnbench.models.config import parse_backend
from gdnbench.plan.sections import merged
from gdnbench.presets import Preset, load_preset
from gdnbench.presets.load import check_preset
from gdnbench.results import Store


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
