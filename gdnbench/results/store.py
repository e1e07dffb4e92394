"""The store of one set: ``results/<set>/runs/<run_id>/`` with ``run.json``, ``metrics.jsonl`` and a checkpoint.

``run.json`` appears once, complete, when a run is over; it carries a checksum of itself and the hash of
``metrics.jsonl``. A damaged file is set aside with its name reported, and its run counts as missing.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gdnbench.configuration import canonical_json, digest, from_mapping, to_mapping
from gdnbench.errors import GdnbenchError, unknown
from gdnbench.files import set_aside, write_text
from gdnbench.results.record import SCHEMA_VERSION, Record


class Busy(GdnbenchError):
    """Another process is working on the run."""


class Store:
    """All runs of one set under ``<root>/<name>``; safe for several processes at once."""

    def __init__(self, root: Path, name: str):
        if name in ("", "..") or Path(name).name != name:
            raise GdnbenchError(f"set {name!r}: expected the name of a folder in {root}, such as mine")
        self.name = name
        self.folder = root / name
        self.damaged: list[str] = []

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of a run, whether it exists or not."""
        return self.folder / "runs" / run_id

    def rows_path(self, run_id: str) -> Path:
        """Return the path of a run's ``metrics.jsonl``."""
        return self.run_folder(run_id) / "metrics.jsonl"

    def checkpoint_path(self, run_id: str) -> Path:
        """Return the path of a run's checkpoint."""
        return self.run_folder(run_id) / "checkpoint.pt"

    def kept_path(self, run_id: str, step: int) -> Path:
        """Return the path of the checkpoint that a run keeps of a step, for runs that begin there."""
        return self.run_folder(run_id) / f"checkpoint-{step}.pt"

    def records(self) -> list[Record]:
        """Return all stored records, by run id; damaged ones are set aside and named in ``damaged``."""
        paths = sorted((self.folder / "runs").glob("*/run.json"))
        loaded = (self.read(path.parent.name) for path in paths)
        return [record for record in loaded if record is not None]

    def read(self, run_id: str, *, leased: bool = False) -> Record | None:
        """Return the record of a run, or None where it has none or a damaged one.

        A damaged one is set aside, unless another process holds the run: then the files are its own. ``leased`` says
        that the caller holds it.
        """
        path = self.run_folder(run_id) / "run.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            stated = content.pop("checksum")
            if content.get("schema") != SCHEMA_VERSION:
                raise GdnbenchError(
                    f"{path}: schema {content.get('schema')}, this version reads {SCHEMA_VERSION}; "
                    "use the gdnbench version that wrote it"
                )
            problem = self._problem(run_id, content, stated)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"it is not a record ({type(error).__name__})"
        if problem:
            with contextlib.suppress(Busy), contextlib.nullcontext() if leased else self.lease(run_id):
                self._set_aside(run_id, path, problem)
            return None
        return from_mapping(Record, content, str(path))

    def rows(self, run_id: str) -> list[dict[str, Any]]:
        """Return the lines of a finished run's ``metrics.jsonl``."""
        lines = self.rows_path(run_id).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def write(self, record: Record) -> None:
        """Store a finished run; the caller holds its lease and has completed its ``metrics.jsonl``."""
        record = dataclasses.replace(record, rows_sha256=rows_hash(self.rows_path(record.run_id)))
        content = to_mapping(record)
        content["checksum"] = digest(content)
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        write_text(self.run_folder(record.run_id) / "run.json", text)

    def take_back(self, run_id: str) -> bool:
        """Remove a run's record, so that it counts as missing; return False if another process holds the run."""
        try:
            with self.lease(run_id):
                (self.run_folder(run_id) / "run.json").unlink(missing_ok=True)
        except Busy:
            return False
        return True

    @contextlib.contextmanager
    def lease(self, run_id: str) -> Iterator[None]:
        """Hold a run for this process; raise `Busy` if another one does. The lock dies with its process."""
        folder = self.run_folder(run_id)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "run.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"{run_id}: another process is running it") from None
            yield

    def _problem(self, run_id: str, content: dict[str, Any], stated: str) -> str | None:
        """Return what is wrong with a record's content, or None."""
        if stated != digest(content):
            return "its checksum does not fit"
        if content["run_id"] != run_id:
            return f"it is the record of {content['run_id']}"
        fits = rows_hash(self.rows_path(run_id)) == content["rows_sha256"]
        return None if fits else "its metrics.jsonl is not the one it was written with"

    def _set_aside(self, run_id: str, path: Path, problem: str) -> None:
        aside = set_aside(path)
        self.damaged.append(f"{path}: {problem}; set aside as {aside.name}, the run counts as missing")
        for other in (self.rows_path(run_id), self.checkpoint_path(run_id)):
            if other.exists():
                set_aside(other)


def open_set(root: Path, name: str) -> Store:
    """Return the store of an existing set; raise with the nearest names where there is none."""
    if not (root / name / "runs").is_dir():
        known = [path.parent.name for path in root.glob("*/runs")]
        raise unknown(f"result set (in {root})", name, known)
    return Store(root, name)


def rows_hash(path: Path) -> str:
    """Return the SHA-256 of a ``metrics.jsonl``; an absent one counts as empty."""
    return hashlib.sha256(path.read_bytes() if path.exists() else b"").hexdigest()


def canonical_line(row: dict[str, Any]) -> str:
    """Return a row as one line of ``metrics.jsonl``."""
    return canonical_json(row) + "\n"
