"""Every test of the data stage has a cache folder of its own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("GDNBENCH_CACHE", str(folder))
    return folder


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """A text folder of two train documents, one valid document and no test split."""
    folder = tmp_path / "books"
    folder.mkdir()
    (folder / "train-00.txt").write_text("One line.\nTwo, the café.\n\nSecond book.\n", encoding="utf-8")
    (folder / "valid.txt").write_text("Held out.\n", encoding="utf-8")
    return folder
