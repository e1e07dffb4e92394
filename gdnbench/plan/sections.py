"""An arm's run at a width as the preset says it: its sections with the experiment's and the arm's over them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from gdnbench.configuration import from_mapping
from gdnbench.data.tasks import Recall, Words, open_task
from gdnbench.data.vocabulary import vocabulary_of
from gdnbench.errors import GdnbenchError
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
    Execution,
    Matched,
    Optimizer,
    RunSpec,
    Schedule,
    Training,
)
from gdnbench.plan.states import match_state
from gdnbench.presets import Arm, Experiment, Preset
from gdnbench.presets.load import START_SECTIONS
from gdnbench.presets.schema import SWEEPS, is_task


def base_spec(preset: Preset, experiment: Experiment, arm: Arm, width: int) -> RunSpec:
    """Return the arm's run at a width, at the optimizer's own learning rate and seed 0.

    Raises:
        GdnbenchError: a field, name, width or budget does not work; the message has its path.
    """

    def section(cls: type[Any], name: str) -> Any:
        values = merged(getattr(preset, name), getattr(experiment, name))
        return from_mapping(cls, values, f"{preset.name}.{experiment.name}.{name}")

    model = model_of(preset, experiment, arm, width)
    parametrization = Parametrization(table=arm.table, switches=arm.switches)
    rows(parametrization, _role_rows(model))  # an unknown table or switch is an error of the plan, not of a run
    training, matched = section(Training, "training") if experiment.kind in SWEEPS else None, None
    if experiment.match is not None and training is not None:
        model, training, matched = _matched(preset, experiment, arm, model, training, width)
    evaluation = section(Evaluation, "evaluation")
    _check_lengths(preset, experiment, training, evaluation)
    return RunSpec(
        experiment=experiment.name,
        arm=arm.name,
        model=model,
        parametrization=parametrization,
        data=_data(preset, experiment),
        optimizer=section(Optimizer, "optimizer"),
        schedule=section(Schedule, "schedule"),
        training=training,
        evaluation=evaluation,
        coordinates=section(Coordinates, "coordinates") if experiment.kind == "coord_check" else None,
        decode=section(Decode, "decode") if experiment.kind == "decode" else None,
        matched=matched,
        device=preset.device,
        dtype=experiment.dtype or preset.dtype,
        residual=preset.residual,
        threads=preset.threads,
        execution=section(Execution, "execution"),
    )


def start_spec(preset: Preset, experiment: Experiment, arm: Arm, width: int) -> RunSpec:
    """Return the run on the preset's corpus whose weights a ``fine_tune`` experiment begins with, at seed 0."""
    own: dict[str, Any] = {name: experiment.start.get(name, {}) for name in START_SECTIONS}
    return base_spec(preset, dataclasses.replace(experiment, corpus=None, **own), arm, width)


def model_of(preset: Preset, experiment: Experiment, arm: Arm, width: int) -> ModelConfig:
    """Return the arm's model; options of mixers that it does not use are left out of it, and so of its identity."""
    values = merged(merged(preset.model, experiment.model), arm.model)
    task = _task(preset, experiment)
    vocabulary = vocabulary_of(preset.tokenizer) if task is None else task.vocab_size
    values = {"vocab_size": vocabulary, **values, "arch": arm.arch, "width": width}
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


def _data(preset: Preset, experiment: Experiment) -> Data:
    """Return corpus and tokenizer; one that is trained on a corpus stays that of the preset's."""
    corpus, task = experiment.corpus or preset.corpus, _task(preset, experiment)
    if task is not None:
        return Data(corpus=corpus, tokenizer="none", task=task)
    foreign = corpus != preset.corpus and preset.tokenizer.startswith("bpe")
    return Data(corpus=corpus, tokenizer=preset.tokenizer, tokenizer_corpus=preset.corpus if foreign else "")


def _task(preset: Preset, experiment: Experiment) -> Recall | Words | None:
    """Return the task that an experiment's corpus is; None where it is a text."""
    corpus = experiment.corpus or preset.corpus
    if not is_task(corpus):
        return None
    return open_task(corpus, merged(preset.task, experiment.task), f"{preset.name}.{experiment.name}.task")


def _role_rows(model: ModelConfig) -> dict[str, Any]:
    """Return the table rows that the model's mixers bring along."""
    mixers = [registry.find(name) for name in dict.fromkeys(layer_mixers(model))]
    return {role: entry for mixer in mixers for role, entry in mixer.role_rows.items()}


def _check_lengths(preset: Preset, experiment: Experiment, training: Training | None, evaluation: Evaluation) -> None:
    """Raise unless what is asked to be measured at some length can be."""
    task = _task(preset, experiment)
    if task is not None and training is not None:
        task.check(training.seq_len)
        task.cases(training.seq_len, evaluation.lengths)
    elif wrong := [length for length in evaluation.lengths if length < 1 or max(evaluation.lengths) % length]:
        raise GdnbenchError(
            f"{preset.name}.{experiment.name}.evaluation.lengths: expected divisors of the longest, "
            f"{max(evaluation.lengths)}, got {wrong[0]}"
        )


def _matched(
    preset: Preset, experiment: Experiment, arm: Arm, model: ModelConfig, training: Training, width: int
) -> tuple[ModelConfig, Training, Matched | None]:
    assert experiment.match is not None
    rule = experiment.match
    reference = next(arm for arm in experiment.arms if arm.name == rule.reference)
    of = model_of(preset, experiment, reference, width)
    if rule.by == "state_bytes":
        if arm.vary is None and arm.name != rule.reference:
            return model, training, None
        where = f"{preset.name}.{experiment.name}.{arm.name}"
        model, matched = match_state(where, rule.reference, model, of, training.seq_len, arm.vary, rule.tolerance)
        return model, training, matched
    return match(rule.by, rule.reference, model, of, training, rule.tolerance, rule.uniform)
