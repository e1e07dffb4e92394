"""Runs that need not be made again: another set holds them, made by the same code, on the same data and device."""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from gdnbench import environment
from gdnbench.plan.expand import Planner
from gdnbench.plan.spec import RunSpec
from gdnbench.presets import Preset
from gdnbench.results import Record, Store
from gdnbench.runs.execute import corpus_of
from gdnbench.runs.reproduce import loss_of
from gdnbench.runs.sources import source_digest
from gdnbench.words import plural

NOTE = "reused: made, by the same code, on the same data and device, for the set "


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reused:
    """What became of runs that were there: by arm and set how many were taken over, by arm how many were outdated."""

    taken: Mapping[tuple[str, str], int]
    outdated: Mapping[str, int]

    def lines(self) -> list[str]:
        """Return it in words."""
        why = "same code, data, configuration and device"
        taken = [
            f"reused: {plural(count, 'run')} of {arm} from the set {name} ({why})"
            for (arm, name), count in self.taken.items()
        ]
        return taken + [
            f"run again: {plural(count, 'run')} of {arm}, which other source files or another content of the text gave"
            for arm, count in self.outdated.items()
        ]


def reuse(preset: Preset, root: Path, name: str) -> Reused:
    """Copy into a set what other sets of the folder hold of a preset's runs; take back what is out of date in it.

    A plan grows by losses, so that what was copied may make further runs known.
    """
    store, planner = Store(root, name), Planner(preset)
    others = [Store(root, path.parent.name) for path in sorted(root.glob("*/runs")) if path.parent.name != name]
    taken: dict[tuple[str, str], int] = {}
    outdated: dict[str, int] = {}
    seen: set[str] = set()
    while True:
        losses = {record.run_id: loss_of(record) for record in store.records()}
        new = [spec for spec in planner.plan(losses).runs if spec.run_id not in seen]
        if not new:
            return Reused(taken=taken, outdated=outdated)
        for spec in new:
            seen.add(spec.run_id)
            own = store.read(spec.run_id)
            if own is not None and not _same_code_and_data(own, spec):
                own = None if store.take_back(spec.run_id) else own
                outdated[spec.arm] = outdated.get(spec.arm, 0) + 1
            found = _origin(own) if own is not None else _taken(others, store, spec)
            if found:
                taken[spec.arm, found] = taken.get((spec.arm, found), 0) + 1


def _serves(store: Store, spec: RunSpec) -> bool:
    """Say whether a set holds the run as it would be made here and now."""
    record = store.read(spec.run_id) if store.run_folder(spec.run_id).is_dir() else None
    return record is not None and _same_code_and_data(record, spec) and _same_device(record, spec)


def _same_code_and_data(record: Record, spec: RunSpec) -> bool:
    text = corpus_of(spec.data, spec.evaluation.splits)
    return record.source_digest == source_digest(spec.model) and record.data.get("corpus_hash") == text.corpus_hash


def _same_device(record: Record, spec: RunSpec) -> bool:
    """Speeds are part of a record, and so is what two devices round otherwise."""
    here = environment.device_name(spec.device)
    versions = environment.library_versions()
    return record.environment.get("device") == here and record.environment["versions"].get("torch") == versions["torch"]


def _taken(others: Sequence[Store], store: Store, spec: RunSpec) -> str:
    """Copy a run with its rows from the first set that holds it; its record says where it comes from."""
    source = next((other for other in others if _serves(other, spec)), None)
    record = None if source is None else source.read(spec.run_id)
    if source is None or record is None:
        return ""
    origin = _origin(record) or source.name
    notes = tuple(note for note in record.notes if not note.startswith(NOTE))
    with store.lease(spec.run_id):
        if source.rows_path(spec.run_id).exists():
            shutil.copyfile(source.rows_path(spec.run_id), store.rows_path(spec.run_id))
        store.write(dataclasses.replace(record, set=store.name, notes=(*notes, NOTE + origin)))
    return origin


def _origin(record: Record) -> str:
    """Return the set that a run was taken over from, or nothing."""
    return next((note.removeprefix(NOTE) for note in record.notes if note.startswith(NOTE)), "")
