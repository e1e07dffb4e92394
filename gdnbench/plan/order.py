"""In which order a study's runs are worth most: by the preset's slices, then seed by seed and width by width."""

from gdnbench.plan.spec import RunSpec
from gdnbench.presets import Preset
from gdnbench.presets.schema import Slice


def importance(preset: Preset, spec: RunSpec) -> tuple[int, int, int]:
    """Return a key by which runs are sorted; those that it leaves equal stay in the order of the plan.

    Whatever is over when time is up is then the most that could be known: whole small grids before second seeds, and
    small widths first.
    """
    place = next((i for i, entry in enumerate(preset.order) if _holds(entry, spec)), len(preset.order))
    return place, spec.seed, spec.model.width


def _holds(entry: Slice, spec: RunSpec) -> bool:
    return (
        entry.experiment == spec.experiment
        and spec.arm in (entry.arms or (spec.arm,))
        and spec.model.width in (entry.widths or (spec.model.width,))
        and spec.seed in (entry.seeds or (spec.seed,))
    )
