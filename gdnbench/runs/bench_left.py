"""What a bench has left to measure for a set: counted by model and implementation, expected by what is stored."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from gdnbench.configuration import canonical_json
from gdnbench.files import write_text
from gdnbench.results import Record, Store
from gdnbench.runs.bench_summary import line
from gdnbench.words import plural

COLUMNS = ("model or operation", "impl", "stored", "left", "minutes")
WIDTHS = (30, 26, 8, 8, 8)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A timing command: its name after ``gdnbench bench``, the kind of its records, and the fields of their
    specifications in which a stored measurement must agree with one to come that is expected to take as long."""

    name: str
    kind: str
    alike: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A measurement that a bench is asked for.

    Attributes:
        run_id: of its record.
        spec: as the record holds it.
        model: what is measured, in words.
        holds: whether a record of this id is what would be measured now: its sources, its settings.
    """

    run_id: str
    spec: Mapping[str, Any]
    model: str
    holds: Callable[[Record], bool]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Measurements of one implementation of a model: stored, left, and seconds of what is left (None: not known)."""

    model: str
    impl: str
    stored: int
    left: int
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a set holds and lacks of the measurements that a bench is asked for.

    Attributes:
        command: what measures the rest of a bench's own grid.
        device: ``cpu`` or ``cuda``.
        rows: in the bench's order.
        again: how many stored ones the command measures again, since other code or settings measured them.
        again_s: seconds that these are expected to take; a refusal tells none.
        damaged: what in the set could not be read, in words.
    """

    command: str
    device: str
    rows: tuple[Row, ...]
    again: int
    again_s: float = 0.0
    damaged: tuple[str, ...] = ()

    @property
    def stored(self) -> int:
        """Number of measurements that the set holds."""
        return sum(row.stored for row in self.rows)

    @property
    def left(self) -> int:
        """Number of measurements that it lacks."""
        return sum(row.left for row in self.rows)

    def lines(self) -> list[str]:
        """Return every row, then the totals."""
        known = [row for row in self.rows if row.seconds is not None and row.left]
        told, minutes = sum(row.left for row in known), sum(row.seconds or 0.0 for row in known) / 60
        again = f" ({self.again} by other code or settings: measured again)" if self.again else ""
        lines = [
            *self.damaged,
            line(COLUMNS, WIDTHS),
            *(line(_cells(row), WIDTHS) for row in self.rows),
            f"{plural(self.stored + self.left, 'measurement')} on {self.device}; {self.stored} stored{again}, "
            f"{self.left} left",
        ]
        as_stored = "as stored ones of the same implementation took"
        if told:
            lines.append(f"expected: {minutes:,.1f} min for {told} of those left, {as_stored}")
        if self.left > told:
            lines.append(f"nothing stored tells the time of {self.left - told} of those left")
        if self.again:
            lines.append(f"expected besides: {self.again_s / 60:,.1f} min for those measured again, {as_stored}")
        return lines

    def text(self) -> str:
        """Return the content of the file for the report: only what is left."""
        rows = [
            {"model": row.model, "impl": row.impl, "measurements": row.left, "seconds": row.seconds}
            for row in self.rows
            if row.left
        ]
        content = {"command": self.command, "device": self.device, "stored": self.stored, "again": self.again}
        return json.dumps({**content, "rows": rows}, indent=1, ensure_ascii=False) + "\n"


def count(command: Command, planned: Iterable[Planned], store: Store | None, *, device: str, option: str = "") -> Left:
    """Count what a set holds of measurements, and what it lacks with the seconds that this is expected to take.

    Args:
        command: the timing command.
        planned: what it is asked for.
        store: the set; None: nothing is stored.
        device: ``cpu`` or ``cuda``.
        option: what the command needs besides the set and the device.
    """
    every = [] if store is None else [r for r in store.records() if r.kind == command.kind and r.timing]
    records = {record.run_id: record for record in every}
    took = _took(every, command.alike)
    groups: dict[tuple[str, str], list[Planned]] = {}
    for one in planned:
        groups.setdefault((one.model, str(one.spec["impl"])), []).append(one)
    found = [(one, records.get(one.run_id)) for group in groups.values() for one in group]
    again = [one for one, record in found if record is not None and not one.holds(record)]
    parts = [f"gdnbench bench {command.name}", *([] if store is None else [f"--set {store.name}"])]
    parts += [f"--device {device}"] if device != "cuda" else []
    return Left(
        command=" ".join([*parts, *([option] if option else [])]),
        device=device,
        rows=tuple(
            _row(model, impl, [one for one in group if one.run_id not in records], len(group), command.alike, took)
            for (model, impl), group in groups.items()
        ),
        again=len(again),
        again_s=sum(took.get(_like(one.spec, command.alike), 0.0) for one in again),
        damaged=() if store is None else tuple(store.damaged),
    )


def leave(command: Command, left: Left, store: Store | None) -> None:
    """Store what is left of a bench's own grid beside the set's runs, for the report; nothing without a set, or where
    all that the set holds is of another device: its page is not about this one."""
    if store is None:
        return
    held = {record.spec["device"] for record in store.records() if record.kind == command.kind}
    if not held or left.device in held:
        write_text(store.folder / f"{command.kind}.left.json", left.text())


def _row(
    model: str, impl: str, missing: Sequence[Planned], number: int, alike: Sequence[str], took: Mapping[Any, float]
) -> Row:
    expected = [took.get(_like(one.spec, alike)) for one in missing]
    known = [seconds for seconds in expected if seconds is not None]
    return Row(
        model=model,
        impl=impl,
        stored=number - len(missing),
        left=len(missing),
        seconds=round(sum(known), 3) if len(known) == len(expected) else None,
    )


def _took(records: Iterable[Record], alike: Sequence[str]) -> dict[Any, float]:
    """Return the mean seconds of measurements that ended well, by the fields in which those to come must agree."""
    finished = [record for record in records if record.outcome == "finished"]
    # Kernels side by side are timed in turn, and the record of each has the seconds of all.
    together = Counter(map(_beginning, finished))
    found: dict[Any, list[float]] = {}
    for record in finished:
        found.setdefault(_like(record.spec, alike), []).append(record.duration_s / together[_beginning(record)])
    return {key: fmean(seconds) for key, seconds in found.items()}


def _like(spec: Mapping[str, Any], alike: Sequence[str]) -> tuple[Any, ...]:
    return tuple(spec[name] for name in alike)


def _beginning(record: Record) -> tuple[str, str]:
    return record.started, canonical_json({k: v for k, v in record.spec.items() if k not in ("impl", "variant")})


def _cells(row: Row) -> tuple[str, ...]:
    minutes = "–" if row.seconds is None else f"{row.seconds / 60:,.1f}" if row.left else ""
    return row.model, row.impl, str(row.stored), str(row.left), minutes
