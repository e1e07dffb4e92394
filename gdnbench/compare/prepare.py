"""Preparing a comparison: variants that are checked, their preset, and what other sets hold of it."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gdnbench_kernels import backends
from gdnbench_kernels.backends import BackendUnavailable
from rich.console import Console

from gdnbench import launch
from gdnbench.check import check
from gdnbench.compare.arms import TABLE, parse_budget, preset_of
from gdnbench.environment import check_device_name
from gdnbench.errors import GdnbenchError
from gdnbench.files import write_text
from gdnbench.launch import Chosen, Outlook
from gdnbench.models import registry
from gdnbench.models.config import DEFAULT_BACKEND
from gdnbench.models.decoder import on_meta
from gdnbench.plan.expand import expand
from gdnbench.presets import Preset
from gdnbench.runs.limit import TimeLimit
from gdnbench.runs.reproduce import Summary
from gdnbench.runs.reuse import reuse


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A variant that is to be compared.

    Attributes:
        given: the file or name it was given by.
        name: of its arm: the name it goes by, or the file's where it does not import.
        problems: what speaks against comparing it; it is then left out.
    """

    given: str
    name: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a command asks for.

    Attributes:
        mixers: files or names of the variants.
        against: baselines by architecture, or by the name of an arm of the budget's preset.
        budget: see `parse_budget`; None: the device's.
        table: parametrization table of the variants.
        seeds: number of seeds; None: the preset's.
        backend: backends of the variants' operations, over the preset's (`kda=fla`); None: the preset's.
        overrides: of the preset, as `gdnbench.launch.choose` takes them.
        allow_epochs: how often a run may see its corpus; None: as the preset has it.
    """

    mixers: tuple[str, ...]
    against: tuple[str, ...]
    budget: str | None = None
    table: str = TABLE
    seeds: int | None = None
    backend: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    allow_epochs: float | None = None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A comparison that is ready to run.

    Attributes:
        chosen: its preset and set.
        root: folder of the result sets.
        variants: all that were given, those with problems are no arms of the preset.
        files: of mixers from outside the repository, which workers import.
        reused: which runs need not be made again, in words.
    """

    chosen: Chosen
    root: Path
    variants: tuple[Variant, ...]
    files: tuple[Path, ...]
    reused: tuple[str, ...]

    def outlook(self, workers: int | None) -> Outlook:
        """Look ahead at what is missing."""
        return launch.outlook(self.chosen, self.root, self.chosen.set, workers)

    def left_out(self) -> list[str]:
        """Return the names of the variants that are left out."""
        return [variant.name for variant in self.variants if variant.problems]

    def run(self, workers: int | None, *, limit: TimeLimit | None, console: Console) -> Summary:
        """Run what is missing and store what the page says of the variants; return what was done."""
        self._write_about({})
        summary = launch.run(
            self.chosen,
            self.root,
            self.chosen.set,
            workers=workers,
            changed_code="restart",
            mixers=self.files,
            limit=limit,
            on_trial=[variant.name for variant in self.variants],
            console=console,
        )
        self._write_about(summary.failed)
        return summary

    def _write_about(self, failed: Mapping[str, str]) -> None:
        content = {
            "variants": [variant.name for variant in self.variants if not variant.problems],
            "left_out": {variant.name: list(variant.problems) for variant in self.variants if variant.problems},
            "failed": dict(failed),
            "reused": list(self.reused),
        }
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        write_text(self.root / self.chosen.set / "presets" / f"{self.chosen.preset.name}.compare.json", text)


def prepared(asked: Asked, root: Path, *, look: bool, say: Callable[[str], None]) -> Prepared:
    """Check the variants, make the preset, and take over what other sets hold of it.

    Args:
        asked: what is asked for.
        root: folder of the result sets.
        look: whether variants are checked beyond their import and sizes.
        say: told what is found.

    Raises:
        GdnbenchError: a baseline, preset, budget or device does not exist, the device is not here, or all variants are
            left out.
    """
    device = asked.overrides.get("device") or "cpu"
    check_device_name(device)
    budget = parse_budget(asked.budget, device)
    base = launch.choose(budget.preset, **asked.overrides)
    launch.check_machine(base)
    settings: dict[str, Any] = {"budget": budget, "table": asked.table, "seeds": asked.seeds, "backend": asked.backend}
    against = [registry.resolve(name) if name.endswith(".py") else name for name in asked.against]
    preset_of(base.preset, [], against, **settings)  # a mistake in what is asked is told before the checks
    preset, variants = fitting(base.preset, examined(asked.mixers, look, say), against, say, **settings)
    if all(variant.problems for variant in variants):
        raise GdnbenchError("no mixer is left to compare, so nothing was run; mend what the lines above say")
    names = "-".join(variant.name for variant in variants)
    suffix = base.set.removeprefix(base.preset.name)
    chosen = Chosen(preset=preset, set=f"compare-{names}-{base.preset.name}{budget.name}{suffix}")
    chosen = launch.repeating(chosen, asked.allow_epochs)
    for line in slow_operations(preset) if preset.device == "cuda" else ():
        say(line)
    given = [*(variant.given for variant in variants if not variant.problems), *asked.against]
    return Prepared(
        chosen=chosen,
        root=root,
        variants=tuple(variants),
        files=tuple(Path(name) for name in given if name.endswith(".py")),
        reused=tuple(reuse(preset, root, chosen.set).lines()),
    )


def examined(files: Sequence[str], look: bool, say: Callable[[str], None]) -> list[Variant]:
    """Import and check the variants; a file that does not import, or in which a check finds something, is left out.

    Args:
        files: files, or names of mixers.
        look: whether to run the checks beyond the import.
        say: told what was found.
    """
    variants = []
    for given in files:
        name = Path(given).stem
        say(f"{given}: checking it (`gdnbench check {given}`)")
        report = check(Path(given), only=() if look else ("parameters",))
        problems = [line for line in report.lines() if line.startswith("FAILED")]
        for line in problems:
            say(line)
        variants.append(Variant(given=given, name=name, problems=tuple(problems)))
    return variants


def fitting(
    base: Preset, variants: Sequence[Variant], against: Sequence[str], say: Callable[[str], None], **settings: Any
) -> tuple[Preset, list[Variant]]:
    """Return the preset of the variants that can be planned, and all variants, others with what stands against them.

    Args:
        base: the preset that the budget names.
        variants: as `examined` returns them.
        against: names of baselines.
        say: told what stands against one.
        settings: of `preset_of`.
    """
    checked = []
    for variant in variants:
        if not variant.problems:
            try:
                runs = expand(preset_of(base, [variant.name], against, **settings), {}).runs
                own = next(spec.model for spec in runs if spec.model.arch == variant.name)
                for operation, impl in on_meta(own).backends().items():
                    backends.load(operation, impl)
            except (GdnbenchError, BackendUnavailable) as error:
                variant = dataclasses.replace(variant, problems=(f"FAILED   {variant.given}: plan: {error}",))
                say(variant.problems[0])
        checked.append(variant)
    usable = [variant.name for variant in checked if not variant.problems]
    return preset_of(base, usable, against, **settings), checked


def slow_operations(preset: Preset) -> list[str]:
    """Return, of each arm, the operations with kernels that its backends leave to plain PyTorch."""
    lines = []
    for spec in {spec.arm: spec for spec in expand(preset, {}).runs}.values():
        plain = [name for name, impl in on_meta(spec.model).backends().items() if impl == DEFAULT_BACKEND]
        others = {name: sorted({*backends.names(name)} - {DEFAULT_BACKEND, "reference"}) for name in plain}
        choices = [f"{name}={'|'.join(known)}" for name, known in sorted(others.items()) if known]
        lines += [f"{spec.arm} computes in plain PyTorch what has kernels: {', '.join(choices)}"] if choices else []
    return lines


def hours(outlook: Outlook) -> float:
    """Return the expected hours of what is not stored: of runs one after the other; of a GPU, which they may share."""
    return sum(row["seconds"] for row in outlook.left()) / 3600
