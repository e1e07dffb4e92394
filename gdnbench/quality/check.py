"""The check: every case computed again, in several processes, and compared with what is stored."""

import math
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from gdnbench.environment import usable_cores
from gdnbench.errors import GdnbenchError
from gdnbench.measure.regression.aligned import aligned
from gdnbench.models import registry
from gdnbench.plan.spec import RunSpec
from gdnbench.quality import cases
from gdnbench.quality.fingerprint import fingerprint
from gdnbench.quality.stored import PATH, Difference, Stored, Values, differences
from gdnbench.quality.training import train
from gdnbench.words import plural

FINE, CHANGED = 0, 1
SHOWN = 40  # lines: one change of a shared part shows in hundreds of cases
MOST_WORKERS = 4
EVERY = 20  # cases between two signs of life


@dataclass(frozen=True, kw_only=True)
class Part:
    """A kind of case: how it is computed, and how far it may be from what is stored, of its size.

    Float32 trainings differ by up to a thousandth between processors, since rounding grows over steps.
    """

    specs: Callable[[], Mapping[str, RunSpec]]
    compute: Callable[[RunSpec], Values]
    tolerance: float


PARTS = {
    "fingerprints": Part(specs=cases.fingerprints, compute=fingerprint, tolerance=1e-8),
    "trainings": Part(specs=cases.trainings, compute=train, tolerance=5e-3),
}


def check(
    *,
    parts: Sequence[str] = tuple(PARTS),
    path: Path = PATH,
    update: bool = False,
    reason: str = "",
    progress: Callable[[str], object] = lambda line: None,
) -> tuple[list[str], int]:
    """Compute the cases of ``parts`` and compare them with the values at ``path``; return lines and exit code.

    With ``update``, what differs is stored, with the ``reason`` for it; the rest keeps its digits.

    Raises:
        GdnbenchError: a case cannot be computed, no values are stored, or an update comes without a reason.
    """
    if update != bool(reason.strip()):
        raise GdnbenchError('quality check: --update and --reason "why the numbers change" go together')
    stored = Stored(reason="", parts={}) if update and not path.exists() else Stored.load(path)
    now = _computed(parts, progress)
    found = [
        difference
        for part in parts
        for name in dict.fromkeys([*now[part], *stored.parts.get(part, {})])
        if not cases.elsewhere(name)
        for difference in differences(
            name, stored.parts.get(part, {}).get(name, {}), now[part].get(name, {}), PARTS[part].tolerance
        )
    ]
    lines = [_counted(now)]
    if not found:
        return [*lines, "all as stored" if not update else "all as stored: nothing to update"], FINE
    lines += _table(found, len(found) if update else SHOWN)
    if not update:
        return [*lines, 'where that is meant: gdnbench quality check --update --reason "..."'], CHANGED
    for difference in found:
        if difference.now is not None and not math.isfinite(difference.now):
            raise GdnbenchError(f"{difference.case}: {difference.name} is {difference.now}, which cannot be stored")
    changed = {difference.case for difference in found}
    merged = {
        part: _merged(stored.parts.get(part, {}), now[part], changed) if part in now else stored.parts[part]
        for part in PARTS
        if part in now or part in stored.parts
    }
    Stored(reason=reason.strip(), parts=merged).save(path)
    return [*lines, f"stored in {path}: {plural(len(changed), 'case')} changed; reason: {reason.strip()}"], FINE


def _computed(parts: Sequence[str], progress: Callable[[str], object]) -> dict[str, dict[str, Values]]:
    """Return the values of all cases by part; each process has one thread, which is the fastest for such sizes."""
    todo = [(part, name, spec) for part in reversed(parts) for name, spec in PARTS[part].specs().items()]
    found: dict[str, dict[str, Values]] = {part: {} for part in parts}
    workers = max(1, min(MOST_WORKERS, usable_cores()))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        answers = pool.map(_case, todo)
        for index, ((part, name, _), values) in enumerate(zip(todo, answers, strict=True), 1):
            found[part][name] = values
            if index % EVERY == 0:
                progress(f"{index} of {len(todo)} cases")
    return found


def _begin() -> None:
    torch.set_num_threads(1)
    for path in cases.examples():
        registry.add_file(path)


def _case(asked: tuple[str, str, RunSpec]) -> Values:
    part, name, spec = asked
    try:
        return PARTS[part].compute(spec)
    except GdnbenchError as error:
        raise GdnbenchError(f"{name}: {error}") from None


def _merged(stored: Mapping[str, Values], now: Mapping[str, Values], changed: Iterable[str]) -> dict[str, Values]:
    kept = {name: values for name, values in stored.items() if cases.elsewhere(name)}
    return {name: now[name] if name in changed else stored[name] for name in now} | kept


def _counted(now: Mapping[str, Mapping[str, Values]]) -> str:
    said = [f"{len(some)} {part} (to {PARTS[part].tolerance:g} of a number)" for part, some in now.items()]
    return ", ".join(said) + ("" if cases.examples() else "; the examples' mixers are not here, and left out")


def _table(found: Sequence[Difference], shown: int) -> list[str]:
    """Return the first difference of each case, from which its later ones follow, below a count by model."""
    first = list({difference.case: difference for difference in reversed(found)}.values())[::-1]
    head = ("case", "first number that differs", "stored", "now", "relative")
    models = Counter(difference.case.partition(",")[0] for difference in first)
    counts = ", ".join(f"{model} ({count})" for model, count in models.items())
    lines = [f"{plural(len(first), 'case')} with other values, {plural(len(found), 'number')} in all: {counts}"]
    lines += aligned([head, *(difference.cells() for difference in first[:shown])])
    if len(first) > shown:
        lines.append(f"and {plural(len(first) - shown, 'more case')}")
    return lines
