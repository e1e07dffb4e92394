"""Expanding a preset into runs; which seeds run where may depend on losses, so a plan is made again as they come.

The expansion is a pure function of the preset and of the losses so far: the same results lead to the same runs.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gdnbench.configuration import canonical_json, from_mapping
from gdnbench.data.vocabulary import vocabulary_of
from gdnbench.models import registry
from gdnbench.models.config import ModelConfig
from gdnbench.models.parametrization import Parametrization, rows
from gdnbench.models.pattern import layer_mixers
from gdnbench.plan.budgets import match
from gdnbench.plan.spec import (
    Coordinates,
    Data,
    Decode,
    Evaluation,
    Matched,
    Optimizer,
    RunSpec,
    Schedule,
    Training,
)
from gdnbench.presets import Arm, Experiment, Preset
from gdnbench.presets.load import learning_rates


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The runs that are known now, and how many more follow once their losses are known."""

    preset: Preset
    runs: tuple[RunSpec, ...]
    later: int


Losses = Mapping[str, float]
"""Validation loss by run id; infinite for a run that diverged; absent for one that is not finished."""


def expand(preset: Preset, losses: Losses) -> Plan:
    """Return the runs of a preset given the losses so far.

    Raises:
        GdnbenchError: a field, name, width or budget of the preset does not work; the message has its path.
    """
    runs: list[RunSpec] = []
    later = 0
    for experiment in preset.experiments:
        for arm in experiment.arms:
            for width in experiment.widths:
                if _trained_by_an_earlier_arm(preset, experiment, arm, width):
                    continue
                found, more = _cell(preset, experiment, arm, width, losses)
                runs += found
                later += more
    unique = {spec.run_id: spec for spec in runs}
    return Plan(preset=preset, runs=tuple(unique.values()), later=later)


def _cell(preset: Preset, experiment: Experiment, arm: Arm, width: int, losses: Losses) -> tuple[list[RunSpec], int]:
    """Return the runs of one arm at one width, and the number that waits for losses."""
    seeds = arm.seeds or experiment.seeds
    base = _spec(preset, experiment, arm, width)
    if experiment.kind == "coord_check":
        return [dataclasses.replace(base, seed=seed) for seed in seeds], 0
    if experiment.kind == "decode":
        assert base.decode is not None
        by_context = [dataclasses.replace(base.decode, context=context) for context in experiment.contexts]
        return [dataclasses.replace(base, decode=decode, seed=seed) for decode in by_context for seed in seeds], 0
    rates = list(learning_rates(experiment, arm.log2_lrs, width))
    if experiment.refine == "all":
        return [_at(base, rate, seed) for rate in rates for seed in seeds], 0
    return _refined(experiment, base, rates, seeds, losses)


def _refined(
    experiment: Experiment, base: RunSpec, rates: list[float], seeds: Sequence[int], losses: Losses
) -> tuple[list[RunSpec], int]:
    """Run the first seed at every rate, extend the grid while the best is at its edge, then run the other seeds."""
    waiting = (min(3, len(rates)) if experiment.refine == "neighbours" else 1) * (len(seeds) - 1)
    for extensions_left in range(experiment.extend, -1, -1):
        first = [_at(base, rate, seeds[0]) for rate in rates]
        found = [losses[run.run_id] for run in first if run.run_id in losses]
        if len(found) < len(first):
            return first, waiting
        best = min(range(len(rates)), key=lambda index: found[index])
        beyond = _beyond(rates, best)
        if beyond is None or not extensions_left:
            break
        rates = sorted([*rates, beyond])
    chosen = rates[max(0, best - 1) : best + 2] if experiment.refine == "neighbours" else [rates[best]]
    return first + [_at(base, rate, seed) for rate in chosen for seed in seeds[1:]], 0


def _beyond(rates: Sequence[float], best: int) -> float | None:
    """Return the next learning rate beyond the edge at which the best lies, or None where it lies inside."""
    if len(rates) < 2 or 0 < best < len(rates) - 1:
        return None
    return 2 * rates[0] - rates[1] if best == 0 else 2 * rates[-1] - rates[-2]


def _at(base: RunSpec, log2_lr: float, seed: int) -> RunSpec:
    optimizer = dataclasses.replace(base.optimizer, lr=2.0**log2_lr)
    return dataclasses.replace(base, optimizer=optimizer, seed=seed)


def _trained_by_an_earlier_arm(preset: Preset, experiment: Experiment, arm: Arm, width: int) -> bool:
    """Whether an earlier arm trains the same model: at the base width all tables are the identity."""
    if experiment.kind not in ("lr_sweep", "coord_check"):
        return False
    model = _model(preset, experiment, arm, width)
    if width != model.base_width:
        return False
    earlier = experiment.arms[: experiment.arms.index(arm)]
    return any(canonical_json(_model(preset, experiment, other, width)) == canonical_json(model) for other in earlier)


def _spec(preset: Preset, experiment: Experiment, arm: Arm, width: int) -> RunSpec:
    """Return the arm's run at a width, at the first learning rate's place holder and seed 0."""

    def section(cls: type[Any], name: str) -> Any:
        values = merged(getattr(preset, name), getattr(experiment, name))
        return from_mapping(cls, values, f"{preset.name}.{experiment.name}.{name}")

    model = _model(preset, experiment, arm, width)
    parametrization = Parametrization(table=arm.table, switches=arm.switches)
    rows(parametrization, _role_rows(model))  # an unknown table or switch is an error of the plan, not of a run
    trains = experiment.kind in ("lr_sweep", "comparison")
    training, matched = section(Training, "training") if trains else None, None
    if experiment.match is not None and training is not None:
        model, training, matched = _matched(preset, experiment, model, training, width)
    return RunSpec(
        experiment=experiment.name,
        arm=arm.name,
        model=model,
        parametrization=parametrization,
        data=Data(corpus=preset.corpus, tokenizer=preset.tokenizer),
        optimizer=section(Optimizer, "optimizer"),
        schedule=section(Schedule, "schedule"),
        training=training,
        evaluation=section(Evaluation, "evaluation"),
        coordinates=section(Coordinates, "coordinates") if experiment.kind == "coord_check" else None,
        decode=section(Decode, "decode") if experiment.kind == "decode" else None,
        matched=matched,
        device=preset.device,
        dtype=preset.dtype,
        threads=preset.threads,
    )


def _role_rows(model: ModelConfig) -> dict[str, Any]:
    """Return the table rows that the model's mixers bring along."""
    mixers = [registry.find(name) for name in dict.fromkeys(layer_mixers(model))]
    return {role: entry for mixer in mixers for role, entry in mixer.role_rows.items()}


def _matched(
    preset: Preset, experiment: Experiment, model: ModelConfig, training: Training, width: int
) -> tuple[ModelConfig, Training, Matched]:
    assert experiment.match is not None
    rule = experiment.match
    reference = next(arm for arm in experiment.arms if arm.name == rule.reference)
    of = _model(preset, experiment, reference, width)
    return match(rule.by, rule.reference, model, of, training, rule.tolerance)


def _model(preset: Preset, experiment: Experiment, arm: Arm, width: int) -> ModelConfig:
    """Return the arm's model; options of mixers that it does not use are left out of it, and so of its identity."""
    values = merged(merged(preset.model, experiment.model), arm.model)
    values = {"vocab_size": vocabulary_of(preset.tokenizer), **values, "arch": arm.arch, "width": width}
    used = set(str(values.get("pattern", "")).replace(":", " ").split()) | {arm.arch}
    options = values.get("options", {})
    for name in options:
        registry.find(name)
    values["options"] = {name: options[name] for name in options if name in used}
    return from_mapping(ModelConfig, values, f"{preset.name}.{experiment.name}.{arm.name}.model")


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` with the values of ``above`` over it, mappings inside merged likewise."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result
