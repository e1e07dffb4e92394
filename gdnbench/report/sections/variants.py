"""Variants beside baselines: paired differences of losses, ratios of speed and memory, and what was left out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gdnbench.configuration import read_json
from gdnbench.presets.schema import Experiment
from gdnbench.report import numbers
from gdnbench.report.analysis import Analysis
from gdnbench.report.comparing import SPEED, Choice, comparable
from gdnbench.report.content import Block, Bullets, Cell, Notice, Row, Section, Table, Text, missing, plain
from gdnbench.report.sections.summary import data, hardware, matching, what_was_run
from gdnbench.report.sections.warnings import warnings
from gdnbench.report.statistics import Interval, paired_difference, position
from gdnbench.report.study import Study
from gdnbench.report.tables.comparison import why_missing

DIFFERENCES = {
    "val_loss": "validation loss (nat/token)",
    "test_loss": "test loss (nat/token)",
    "bits_per_byte": "bits per byte",
}
RATIOS = {SPEED: "training tokens/s", "peak_gib": "peak memory of training", "state_bytes": "state a sequence"}
WORDS = {
    "below": "lower",
    "above": "higher",
    "inside": "undecided",
    "undecided": "undecided",
    "pending": "too few seeds",
}


def about_variants(study: Study) -> Mapping[str, Any]:
    """Return what `gdnbench compare` stored of its variants; empty for a set of another command."""
    paths = study.snapshots("*.compare.json")
    return read_json(paths[-1]) if paths else {}


def variants(analysis: Analysis, about: Mapping[str, Any]) -> Section:
    """Return the first section of a comparison's page."""
    study = analysis.study
    blocks: list[Block] = [Text(text=preset.about) for preset in study.presets if preset.about]
    blocks.append(Text(text=what_was_run(study)))
    if study.records:
        blocks.append(Text(text=f"{hardware(study.records)} {data(study.records)}"))
    blocks += [Text(text=text, runs=runs) for text, runs in matching(analysis)]
    for name, lines in about["left_out"].items():
        blocks.append(Notice(text=f"Left out: {name}. What was found:", tone="bad"))
        blocks.append(Bullets(items=tuple(line.removeprefix("FAILED").strip() for line in lines)))
    blocks += [Notice(text=f"Failed: {run}: {why}", tone="bad") for run, why in about["failed"].items()]
    if about["reused"]:
        blocks.append(Bullets(items=tuple(f"{line[0].upper()}{line[1:]}." for line in about["reused"])))
    for experiment, choices in analysis.comparisons:
        for name in about["variants"]:
            blocks += _against(experiment, choices, name)
    reused = "reused: "
    told = [block for block in warnings(analysis) if not (isinstance(block, Notice) and f": {reused}" in block.text)]
    return Section(anchor="summary", title="1. The variants beside the baselines", blocks=[*blocks, *told])


def _against(experiment: Experiment, choices: Sequence[Choice], name: str) -> list[Block]:
    """Return the paired table of a variant, with a sentence on its loss."""
    variant = next((choice for choice in choices if choice.runs.arm == name), None)
    if variant is None or not variant.chosen:
        why = "it has no run" if variant is None else why_missing(variant)
        return [Notice(text=f"{name}: {why}, so there is nothing to compare in {experiment.name}.", tone="bad")]
    others = [choice for choice in choices if choice is not variant]
    rows = [row for other in others for row in _rows(variant, other)]
    sentences = [sentence for other in others if (sentence := _sentence(variant, other))]
    table = Table(
        name=f"paired_{name}_{experiment.name}".replace("-", "_"),
        caption=f"{name} beside the other arms, seed by seed",
        columns=("beside", "quantity", f"{name} minus it, or over it", "95% interval", "so it is", "seeds"),
        rows=tuple(rows),
        note="Paired over seeds, which see equal batches; each arm at its own best rate. Losses are differences; "
        "speed, memory and state are ratios (geometric mean). Student t intervals, which need 3 seeds.",
    )
    return [Bullets(items=tuple(sentences)), table] if sentences else [table]


def _rows(variant: Choice, other: Choice) -> list[Row]:
    if not other.chosen:
        return [Row(cells=(plain(other.runs.arm), *(missing(why_missing(other)),) * 5), runs=other.runs.run_ids)]
    runs = (*variant.run_ids, *other.run_ids)
    rows = []
    for metric, title in DIFFERENCES.items():
        found = paired_difference(variant.by_seed(metric), other.by_seed(metric))
        if found is not None:
            cells = _cells(found, lambda x: numbers.number(x, 4), WORDS[position(found, 0.0, 0.0)])
            rows.append(Row(cells=(plain(other.runs.arm), plain(title), *cells), runs=runs))
    for metric, title in RATIOS.items():
        found = paired_difference(_logs(variant.by_seed(metric)), _logs(other.by_seed(metric)))
        if found is None:
            continue
        cells = _cells(found, lambda x: numbers.significant(math.exp(x)), WORDS[position(found, 0.0, 0.0)])
        if len(comparable((variant, other), metric)) > 1:
            why = f"no ratio: {numbers.at_a_time(variant.at_once)} beside {numbers.at_a_time(other.at_once)}"
            cells = (missing(why), plain(""), plain(""), plain(""))
        rows.append(Row(cells=(plain(other.runs.arm), plain(f"{title}, ratio"), *cells), runs=runs))
    return rows


def _cells(found: Interval, shown: Any, word: str) -> tuple[Cell, ...]:
    if found.low is None or found.high is None:
        limits = missing("needs 3 seeds")
    else:
        limits = plain("exact" if found.low == found.high else f"[{shown(found.low)}, {shown(found.high)}]")
    if found.low == found.high == found.mean == 0:
        word = "equal"
    return plain(shown(found.mean), found.mean), limits, plain(word), plain(str(found.n), found.n)


def _sentence(variant: Choice, other: Choice) -> str:
    """Return what the validation losses say, in words."""
    found = paired_difference(variant.by_seed("val_loss"), other.by_seed("val_loss"))
    if found is None:
        return ""
    word = WORDS[position(found, 0.0, 0.0)]
    said = {"lower": "is ahead of", "higher": "is behind"}.get(word, "cannot be told from")
    if word == "too few seeds":
        return f"{variant.runs.arm} and {other.runs.arm}: {numbers.limits(found, 4, 'nat/token')} of validation loss."
    return f"{variant.runs.arm} {said} {other.runs.arm}: {numbers.limits(found, 4, 'nat/token')} of validation loss."


def _logs(values: Mapping[int, float]) -> dict[int, float]:
    return {seed: math.log(value) for seed, value in values.items() if value > 0}
