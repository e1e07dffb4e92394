"""Expanding a preset into runs; which seeds run where may depend on losses, so a plan is made again as they come.

The expansion is a pure function of the preset and of the losses so far: the same results lead to the same runs.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from gdnbench.configuration import canonical_json
from gdnbench.plan.sections import base_spec, model_of, start_spec
from gdnbench.plan.spec import Origin, RunSpec
from gdnbench.plan.sweep import Losses, Point, Sweep
from gdnbench.presets import Arm, Experiment, Preset
from gdnbench.presets.load import learning_rates, seeds
from gdnbench.presets.schema import OVER_WIDTH, SWEEPS


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The runs that are known now, and those that follow once their losses are known: about how many like which run."""

    preset: Preset
    runs: tuple[RunSpec, ...]
    following: tuple[tuple[RunSpec, int], ...]

    @property
    def later(self) -> int:
        """About how many runs follow."""
        return sum(count for _, count in self.following)


Cell = Callable[[Losses], tuple[list[RunSpec], int]]
"""An arm at one width: its runs that are known by the losses so far, and about how many more follow."""


class Planner:
    """Plans of one preset: what does not depend on losses is made once, so that a plan is quickly made again."""

    def __init__(self, preset: Preset):
        """Read the preset; raise `GdnbenchError` with the path of a field, name, width or budget that does not work."""
        self.preset = preset
        self._cells = [cell for experiment in preset.experiments for cell in _cells(preset, experiment)]

    def plan(self, losses: Losses) -> Plan:
        """Return the runs given the losses so far."""
        runs: list[RunSpec] = []
        following = []
        for cell in self._cells:
            found, more = cell(losses)
            runs += found
            if more:
                following.append((found[-1], more))
        unique = {spec.run_id: spec for spec in runs}
        return Plan(preset=self.preset, runs=tuple(unique.values()), following=tuple(following))


def expand(preset: Preset, losses: Losses) -> Plan:
    """Return the runs of a preset given the losses so far.

    Raises:
        GdnbenchError: a field, name, width or budget of the preset does not work; the message has its path.
    """
    return Planner(preset).plan(losses)


def _cells(preset: Preset, experiment: Experiment) -> Iterator[Cell]:
    """Yield the arms at their widths; at the base width all tables are the identity, so only the first arm is there."""
    bases: dict[str, Sweep | None] = {}
    for arm in experiment.arms:
        base_width = model_of(preset, experiment, arm, experiment.widths[0]).base_width
        at_base = canonical_json(model_of(preset, experiment, arm, base_width))
        # The base width first: what it finds best is run at the others, too.
        for width in sorted(arm.widths or experiment.widths, key=lambda width: (width != base_width, width)):
            shared = width == base_width and experiment.kind in OVER_WIDTH
            if shared and at_base in bases:
                continue
            spec = base_spec(preset, experiment, arm, width)
            sweep = None
            if experiment.kind in SWEEPS:
                base = bases.get(at_base) if experiment.transferred and not shared else None
                sweep = _sweep(preset, experiment, arm, spec, base)
                yield sweep.runs
            else:
                yield partial(_fixed, _measurements(experiment, spec, seeds(experiment, arm, width)))
            if shared:
                bases[at_base] = sweep


def _fixed(runs: list[RunSpec], losses: Losses) -> tuple[list[RunSpec], int]:
    """Return runs that do not depend on losses."""
    return runs, 0


def _measurements(experiment: Experiment, spec: RunSpec, chosen: tuple[int, ...]) -> list[RunSpec]:
    """Return the runs of a coordinate check or of generation."""
    if experiment.kind == "coord_check":
        return [dataclasses.replace(spec, seed=seed) for seed in chosen]
    assert spec.decode is not None
    by_context = [dataclasses.replace(spec.decode, context=context) for context in experiment.contexts]
    return [dataclasses.replace(spec, decode=decode, seed=seed) for decode in by_context for seed in chosen]


def _sweep(preset: Preset, experiment: Experiment, arm: Arm, spec: RunSpec, base: Sweep | None) -> Sweep:
    width = spec.model.width
    if experiment.kind == "horizon":
        point = partial(_branches, spec, experiment.horizons)
    elif experiment.kind == "fine_tune":
        point = partial(_continued, start_spec(preset, experiment, arm, width), spec)
    else:
        point = partial(_single, spec)
    return Sweep(
        point,
        learning_rates(experiment, arm, width),
        seeds(experiment, arm, width),
        refine=experiment.refine,
        extend=experiment.extend,
        base=base,
    )


def _single(spec: RunSpec, log2_lr: float, seed: int) -> Point:
    return Point(measured=(_at(spec, log2_lr, seed),))


def _branches(spec: RunSpec, horizons: tuple[int, ...], log2_lr: float, seed: int) -> Point:
    """Return a run at a constant rate, and one of each length that branches off from it where its decay begins."""
    run = _at(spec, log2_lr, seed)
    assert run.training is not None
    training = run.training
    lengths = [training.steps * horizon for horizon in sorted(horizons)]
    starts = tuple(run.schedule.decay_start(steps) for steps in lengths)
    trunk = dataclasses.replace(
        run,
        schedule=dataclasses.replace(run.schedule, kind="constant"),
        training=dataclasses.replace(training, steps=starts[-1], keep_at=starts),
    )
    branches = (
        dataclasses.replace(
            run,
            training=dataclasses.replace(training, steps=steps),
            origin=Origin(run=trunk.run_id, step=start),
        )
        for steps, start in zip(lengths, starts, strict=True)
    )
    return Point(measured=tuple(branches), needed=(trunk,))


def _continued(start: RunSpec, spec: RunSpec, log2_lr: float, seed: int) -> Point:
    """Return the seed's run on the first corpus, and one that begins with its weights at the given rate."""
    assert start.training is not None
    last = start.training.steps
    first = dataclasses.replace(
        start, seed=seed, training=dataclasses.replace(start.training, keep_at=(last,), keep_checkpoint=False)
    )
    run = _at(spec, log2_lr, seed)
    return Point(
        measured=(dataclasses.replace(run, origin=Origin(run=first.run_id, step=last, takes="weights")),),
        needed=(first,),
    )


def _at(spec: RunSpec, log2_lr: float, seed: int) -> RunSpec:
    optimizer = dataclasses.replace(spec.optimizer, lr=2.0**log2_lr)
    return dataclasses.replace(spec, optimizer=optimizer, seed=seed)
