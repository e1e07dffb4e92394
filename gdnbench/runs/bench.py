"""What the timing commands share: a budget of seconds, and records that are stored as soon as they are measured."""

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gdnbench import environment
from gdnbench.errors import GdnbenchError
from gdnbench.files import write_text
from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.results import Record, Store
from gdnbench.results.export import to_json
from gdnbench.results.record import metric
from gdnbench.runs.rows import Rows

Metrics = dict[str, dict[str, Any]]
Say = Callable[[str], None]  # told of progress, a line at a time
MACHINE = ("device", "driver", "versions")  # of the environment; a time belongs to these


@dataclass(frozen=True, kw_only=True)
class Content:
    """The fields of a `gdnbench.results.Record` that depend on what was measured, and the record's rows."""

    outcome: Literal["finished", "unavailable", "failed"]
    detail: str
    metrics: Metrics
    data: dict[str, Any]
    notes: tuple[str, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()


@dataclass
class Outcome:
    """What a run of a bench did.

    Attributes:
        records: what was measured now, and what the set already held of what was asked for.
        left_out: what the budget did not last for, by label.
        calibration: the ceilings of this run; None where nothing was left to measure.
    """

    records: list[Record] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    calibration: Calibration | None = None

    @property
    def red(self) -> list[Record]:
        """The records whose correctness check is red, or whose case broke."""
        return [r for r in self.records if r.outcome == "failed" or r.data.get("correct") is False]


class Budget:
    """Seconds that a run may take, and the longest that each kind of step took so far."""

    def __init__(self, seconds: float | None):
        self.end = None if seconds is None else time.monotonic() + seconds
        self.longest: dict[object, float] = {}

    def allows(self, kind: object) -> bool:
        """Say whether a step of a kind would end in time, if it takes as long as the longest of its kind."""
        return self.end is None or time.monotonic() + self.longest.get(kind, 0.0) <= self.end

    def took(self, kind: object, started: float) -> None:
        """Note that a step began at ``started`` (`time.monotonic`) and is over."""
        self.longest[kind] = max(self.longest.get(kind, 0.0), time.monotonic() - started)

    def left(self) -> float | None:
        """Return the seconds that are left, at least 0; None without a budget."""
        return None if self.end is None else max(0.0, self.end - time.monotonic())


class Start:
    """When a measurement began."""

    def __init__(self) -> None:
        self.utc = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.clock = time.monotonic()


class Book:
    """The records of one run of a bench: those that its set holds already, and those that it adds.

    Args:
        kind: of the records.
        store: where they are stored; None: nowhere.
        device: ``cpu`` or ``cuda``.
        again: measure what the set already holds, too.
        json_file: where all records are written as flat objects, anew after each one; None: nowhere.
    """

    def __init__(self, kind: str, store: Store | None, *, device: str, again: bool, json_file: Path | None = None):
        self.kind, self.store, self.again, self.json_file = kind, store, again, json_file
        self.environment = environment.describe(device)
        self.outcome = Outcome()

    def stored(self, run_id: str, holds: Callable[[Record], bool]) -> Record | None:
        """Return the stored record of a case if nothing that determines it has changed: machine, libraries, and
        (which ``holds`` says) sources and settings.

        A refusal or a red check is a result too: it would be the same again.
        """
        record = None if self.store is None or self.again else self.store.read(run_id)
        if record is None or not holds(record):
            return None
        same = all(record.environment.get(key) == self.environment[key] for key in MACHINE)
        return record if same else None

    def take(self, records: Sequence[Record]) -> None:
        """Count stored records among those of this run."""
        self.outcome.records += records

    def keep(
        self,
        run_id: str,
        spec: dict[str, Any],
        content: Content,
        start: Start,
        *,
        digest: str,
        backends: Mapping[str, str],
    ) -> None:
        """Make the record of a case that began at ``start``, and store it where there is a set."""
        record = Record(
            run_id=run_id,
            set="" if self.store is None else self.store.name,
            kind=self.kind,
            outcome=content.outcome,
            detail=content.detail,
            spec=spec,
            metrics=content.metrics,
            rows_sha256="",
            source_digest=digest,
            data=content.data,
            environment={**self.environment, "backends": dict(backends)},
            started=start.utc,
            duration_s=round(time.monotonic() - start.clock, 3),
            notes=content.notes,
        )
        if self.store is not None:
            with self.store.lease(run_id):
                rows = Rows(self.store.rows_path(run_id), 0)
                for row in content.rows:
                    rows.append(dict(row))
                rows.close()
                self.store.write(record)
        self.outcome.records.append(record)
        self.write_json()

    def write_json(self) -> None:
        """Write the file of flat objects, if one is wanted."""
        if self.json_file is not None:
            write_text(self.json_file, to_json(self.outcome.records))

    def close(self) -> Outcome:
        """Return what was done; raise `GdnbenchError` where nothing at all could be timed."""
        self.write_json()
        records = self.outcome.records
        if records and all(record.outcome == "unavailable" for record in records):
            reasons = dict.fromkeys(f"{record.spec['impl']}: {record.detail}" for record in records)
            raise GdnbenchError(f"nothing could be timed: {'; '.join(reasons)}")
        return self.outcome


def open_store(root: Path, set_name: str | None, kind: str, what: str) -> Store | None:
    """Return the store of a set for timings of a ``kind``, or None without a set.

    Raises:
        GdnbenchError: the set holds something else, runs of a preset or another kind's timings, of which no page could
            be made; ``what`` names the timings in the message.
    """
    if set_name is None:
        return None
    store = Store(root, set_name)
    others = sorted({record.kind for record in store.records()} - {kind})
    runs = (store.folder / "presets").exists()
    if runs or others:
        held = "runs of a preset" if runs else f"records of kind {' and '.join(others)}"
        raise GdnbenchError(f"--set {set_name}: {store.folder} holds {held}; {what} need a set of their own")
    return store


def samples(times: Sequence[float]) -> tuple[Mapping[str, Any], ...]:
    """Return milliseconds as rows of a record, by round."""
    return tuple({"type": "sample", "round": index, "ms": ms} for index, ms in enumerate(times))


def ceilings(calibration: Calibration) -> Metrics:
    """Return the metrics of a calibration."""
    return {
        "copy_gb_s": metric(calibration.copy_gb_s, "GB/s"),
        "matmul_tflop_s": metric(calibration.matmul_tflop_s, "TFLOP/s"),
    }
