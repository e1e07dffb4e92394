"""Finding a preset by name or path and reading it strictly."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from gdnbench.configuration import from_mapping, read_yaml
from gdnbench.errors import GdnbenchError, unknown
from gdnbench.presets.schema import SWEEPS, Arm, Experiment, Preset, Slice, is_task

T = TypeVar("T")
FOLDER = Path(__file__).parent
# Sections of the run that a fine-tuning begins with; its model is the same.
START_SECTIONS = ("optimizer", "schedule", "training", "evaluation")


def preset_names() -> list[str]:
    """Return the names of the presets that ship with the suite."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def preset_path(name_or_path: str) -> Path:
    """Return the file of a preset given by name, or by the path of a ``.yaml`` file."""
    if name_or_path.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    if name_or_path not in preset_names():
        raise unknown("preset", name_or_path, preset_names())
    return FOLDER / f"{name_or_path}.yaml"


def load_preset(name_or_path: str) -> Preset:
    """Read and check a preset.

    Raises:
        GdnbenchError: no such preset or file, an unknown or ill-typed key (with its path), or experiments that do not
            fit together.
    """
    path = preset_path(name_or_path)
    preset = from_mapping(Preset, read_yaml(path), str(path))
    check_preset(preset, str(path))
    return preset


def check_preset(preset: Preset, where: str) -> None:
    """Raise unless the preset's experiments and claim cards fit together; messages begin with ``where``."""
    names = [experiment.name for experiment in preset.experiments]
    if len(set(names)) != len(names):
        raise GdnbenchError(f"{where}: experiment names must differ, found {', '.join(names)}")
    for experiment in preset.experiments:
        _check_experiment(experiment, f"{where}: experiment {experiment.name}")
        corpus = experiment.corpus or preset.corpus
        if (experiment.kind == "task") != is_task(corpus):
            raise GdnbenchError(
                f"{where}: experiment {experiment.name}: kind task goes with a corpus task:<name> and only with it, "
                f"got kind {experiment.kind} with corpus {corpus}"
            )
    for position, entry in enumerate(preset.order):
        _check_slice(preset, entry, f"{where}: order[{position}]")
    for card in preset.claims:
        _check_card(preset, card.experiment, [card.arm, card.control], f"{where}: claim {card.claim}")


def _check_experiment(experiment: Experiment, where: str) -> None:
    arms = [arm.name for arm in experiment.arms]
    if not arms or len(set(arms)) != len(arms):
        raise GdnbenchError(f"{where}: needs arms of different names, found {', '.join(arms) or 'none'}")
    if not experiment.widths:
        raise GdnbenchError(f"{where}: needs at least one width")
    for arm in experiment.arms:
        _check_arm(experiment, arm, where)
        for width in arm.widths or experiment.widths:
            if not seeds(experiment, arm, width):
                raise GdnbenchError(f"{where}: no seeds for arm {arm.name!r} at width {width}")
    if experiment.kind == "coord_check" and len(set(experiment.widths)) < 2:
        raise GdnbenchError(f"{where}: a coordinate check compares widths and needs at least two")
    if experiment.kind == "decode" and not experiment.contexts:
        raise GdnbenchError(f"{where}: a decode experiment needs contexts")
    if experiment.kind == "horizon" and not experiment.horizons:
        raise GdnbenchError(f"{where}: a horizon experiment needs horizons, such as [1, 4, 8]")
    if experiment.kind == "fine_tune" and "lr" not in experiment.start.get("optimizer", {}):
        raise GdnbenchError(f"{where}: a fine_tune experiment needs start.optimizer.lr, the rate of the run before it")
    if unknown_parts := set(experiment.start) - set(START_SECTIONS):
        raise unknown(f"{where}: section of start", sorted(unknown_parts)[0], START_SECTIONS)
    if experiment.match is not None and experiment.match.by == "state_bytes" and experiment.kind != "task":
        raise GdnbenchError(f"{where}: match.by state_bytes goes with kind task, this is a {experiment.kind}")
    if experiment.match is not None and experiment.match.reference not in arms:
        raise unknown(f"{where}: match.reference", experiment.match.reference, arms)


def _check_arm(experiment: Experiment, arm: Arm, where: str) -> None:
    """Raise unless an arm's widths are the experiment's and it has learning rates where it needs them."""
    if foreign := set(arm.widths or ()) - set(experiment.widths):
        raise unknown(f"{where}: width of arm {arm.name!r}", sorted(foreign)[0], map(str, experiment.widths))
    for width in arm.widths or experiment.widths if experiment.kind in SWEEPS else ():
        rates = learning_rates(experiment, arm, width)
        if not rates:
            raise GdnbenchError(f"{where}: no log2_lrs for arm {arm.name!r} at width {width}")
        if arm.transferred_lr is not None and arm.transferred_lr not in rates:
            raise GdnbenchError(
                f"{where}: transferred_lr {arm.transferred_lr:g} of arm {arm.name!r} is none of its log2_lrs at width "
                f"{width}: {', '.join(f'{rate:g}' for rate in rates)}"
            )


def _check_slice(preset: Preset, entry: Slice, where: str) -> None:
    """Raise unless a slice names an experiment of the preset, and arms and widths that it has."""
    found = {experiment.name: experiment for experiment in preset.experiments}
    if entry.experiment not in found:
        raise unknown(f"{where}: experiment", entry.experiment, found)
    experiment = found[entry.experiment]
    for arm in entry.arms:
        if arm not in (known := [arm.name for arm in experiment.arms]):
            raise unknown(f"{where}: arm", arm, known)
    for width in entry.widths:
        if width not in experiment.widths:
            raise unknown(f"{where}: width", width, map(str, experiment.widths))


def _check_card(preset: Preset, experiment: str, arms: list[str], where: str) -> None:
    if not experiment:
        return
    found = {entry.name: entry for entry in preset.experiments}
    if experiment not in found:
        raise unknown(f"{where}: experiment", experiment, found)
    known = [arm.name for arm in found[experiment].arms]
    for arm in filter(None, arms):
        if arm not in known:
            raise unknown(f"{where}: arm", arm, known)


def learning_rates(experiment: Experiment, arm: Arm, width: int) -> tuple[float, ...]:
    """Return the log2 learning rates of an arm at a width, ascending: its own, or the experiment's."""
    return tuple(sorted(_at(experiment.log2_lrs if arm.log2_lrs is None else arm.log2_lrs, width)))


def seeds(experiment: Experiment, arm: Arm, width: int) -> tuple[int, ...]:
    """Return the seeds of an arm at a width, the one that runs every rate first: its own, or the experiment's."""
    return _at(experiment.seeds if arm.seeds is None else arm.seeds, width)


def _at(values: Mapping[int, tuple[T, ...]] | tuple[T, ...], width: int) -> tuple[T, ...]:
    """Return what is given by width, or for all widths; nothing where a width is left out."""
    return values if isinstance(values, tuple) else values.get(width, ())
