"""A run's ``metrics.jsonl``: appended line by line, cut back to the checkpoint when a run is resumed."""

import os
from pathlib import Path
from typing import Any

from gdnbench.files import storage_error
from gdnbench.results.store import canonical_line


class Rows:
    """The open ``metrics.jsonl`` of a run; ``size`` bytes of it are known to be good when it is opened."""

    def __init__(self, path: Path, size: int):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._file.truncate(size)

    def append(self, row: dict[str, Any]) -> None:
        """Add a line."""
        try:
            self._file.write(canonical_line(row).encode())
        except OSError as error:
            raise storage_error(self.path, error) from error

    def flush(self) -> int:
        """Bring all lines to the disk and return the size in bytes."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise storage_error(self.path, error) from error
        return self._file.tell()

    def close(self) -> None:
        """Close the file, its content on the disk."""
        self.flush()
        self._file.close()
