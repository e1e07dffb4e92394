"""The preset of a comparison: another preset's, with the variants and baselines as its arms."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gdnbench.errors import GdnbenchError, unknown
from gdnbench.models import registry
from gdnbench.models.config import parse_backend
from gdnbench.presets import Preset
from gdnbench.presets.load import check_preset
from gdnbench.presets.schema import Arm, Experiment

DEFAULT_BUDGETS = {"cpu": "quick", "cuda": "h200-125m"}
TABLE = "mup_derived"
UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
# Of the coordinate check, where the preset has none: the base width and multiples of it, near the usual best rate.
CHECK_WIDTHS, CHECK_RATE = (1, 2, 4), 2.0**-7
# Of generation, where the preset has none: in units of the length that is trained on.
CONTEXTS = (1, 8)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A size by the name of a preset, and training tokens in place of that preset's."""

    preset: str
    tokens: int | None = None

    @property
    def name(self) -> str:
        """What a set is called after it."""
        return "" if self.tokens is None else f"-{self.tokens}"


def parse_budget(text: str | None, device: str) -> Budget:
    """Return what ``quick``, ``15M`` or ``quick:500k`` asks for; without a name, that of the device."""
    name, _, tokens = (text or "").partition(":")
    if re.fullmatch(r"[0-9.]+[kKmMbB]?", name) and not tokens:
        name, tokens = "", name
    count = None
    if tokens:
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmb]?)", tokens.lower())
        count = round(float(match[1]) * UNITS[match[2]]) if match else 0
        if count < 1:
            raise GdnbenchError(f"--budget {text}: expected a preset, tokens such as 15M, or both: quick:500k")
    return Budget(preset=name or DEFAULT_BUDGETS[device], tokens=count)


def preset_of(
    base: Preset,
    variants: Sequence[str],
    against: Sequence[str],
    *,
    budget: Budget,
    table: str = TABLE,
    seeds: int | None = None,
    backend: str | None = None,
) -> Preset:
    """Return the preset of a comparison: another preset's, with the arms ``against`` and those of the variants.

    Experiments and baselines keep their names and settings, so that a baseline's runs are those of the other preset.

    Args:
        base: the preset that the budget names.
        variants: names of mixers.
        against: baselines: architectures, or arms of the base preset's comparison by name.
        budget: training tokens in place of the preset's.
        table: parametrization table of the variants.
        seeds: number of seeds; None: the preset's.
        backend: backends of the variants' operations, over the preset's; None: the preset's.

    Raises:
        GdnbenchError: the preset has no comparison, or a baseline does not exist.
    """
    comparison = next((e for e in base.experiments if e.kind == "comparison"), None)
    if comparison is None:
        raise GdnbenchError(f"preset {base.name} has no comparison; its size cannot be used for one")
    model = {} if backend is None else {"backend": parse_backend(backend)}
    own = [Arm(name=name, arch=name, table=table, model=model) for name in variants]
    others = [_baseline(base, comparison, name) for name in against]
    arms = tuple({arm.name: arm for arm in (*others, *own)}.values())
    changes: dict[str, Any] = {"arms": arms, "title": f"At a matched budget ({base.title})"}
    if seeds is not None:
        changes["seeds"] = tuple(range(seeds))
    if comparison.match is not None and comparison.match.reference not in [arm.name for arm in arms]:
        changes["match"] = dataclasses.replace(comparison.match, reference=arms[0].name)
    if budget.tokens is not None:
        changes |= _length(base, comparison, budget.tokens)
    experiments = [dataclasses.replace(comparison, **changes), *_measurements(base, own, arms)]
    listed = ", ".join(arm.name for arm in arms)
    tokens = "" if budget.tokens is None else f", at {budget.tokens:,} tokens"
    preset = dataclasses.replace(
        base,
        name=f"compare-{'-'.join(variants) or 'baselines'}",
        title=f"{', '.join(variants) or 'Baselines'} against {', '.join(arm.name for arm in others)}",
        about=f"{listed} on the budget of the preset {base.name}{tokens}.",
        experiments=tuple(experiments),
        order=(),
        claims=(),
    )
    check_preset(preset, preset.name)
    return preset


def _baseline(base: Preset, comparison: Experiment, name: str) -> Arm:
    """Return the arm called so, or the one of the architecture: under a μP table rather than SP, in the same block."""
    named = [arm for arm in comparison.arms if arm.name == name]
    of_arch = [arm for arm in comparison.arms if arm.arch == name and arm.model.get("block") != "native"]
    found = named or sorted(of_arch, key=lambda arm: arm.table == "sp")
    if found:
        return found[0]
    if name not in registry.names():
        known = [*(arm.name for arm in comparison.arms), *registry.names()]
        raise unknown(f"baseline of --against (arms of {base.name}, and architectures)", name, known)
    return Arm(name=name, arch=name, table=TABLE)


def _length(base: Preset, comparison: Experiment, tokens: int) -> dict[str, Any]:
    """Return training and schedule for so many tokens: other steps, and a warm-up that is as large a part of them."""
    training = {**base.training, **comparison.training}
    schedule = {**base.schedule, **comparison.schedule}
    steps = max(1, round(tokens / (training["batch_size"] * training["seq_len"])))
    warmup = max(1, round(schedule.get("warmup_steps", 10) * steps / training["steps"]))
    return {
        "training": {**comparison.training, "steps": steps},
        "schedule": {**comparison.schedule, "warmup_steps": min(warmup, steps)},
    }


def _measurements(base: Preset, own: Sequence[Arm], arms: Sequence[Arm]) -> list[Experiment]:
    """Return a coordinate check of the variants and generation by all arms, as the base preset has them if it does."""
    kinds = {kind: next((e for e in base.experiments if e.kind == kind), None) for kind in ("coord_check", "decode")}
    found = []
    if own:
        width = int(base.model.get("base_width", 64))
        coordinates = kinds["coord_check"] or Experiment(
            name="coordinates",
            kind="coord_check",
            title="Coordinate checks",
            arms=(),
            widths=tuple(width * factor for factor in CHECK_WIDTHS),
            seeds=(0, 1, 2),
            optimizer={"lr": CHECK_RATE},
        )
        found.append(dataclasses.replace(coordinates, arms=tuple(own)))
    decode = kinds["decode"] or Experiment(
        name="decode",
        kind="decode",
        title="Generation over context",
        arms=(),
        widths=next(e for e in base.experiments if e.kind == "comparison").widths,
        contexts=tuple(times * int(base.training.get("seq_len", 64)) for times in CONTEXTS),
        seeds=(0, 1, 2),
    )
    return [*found, dataclasses.replace(decode, arms=tuple(arms))]
