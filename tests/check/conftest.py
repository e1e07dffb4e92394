"""A mixer that works, and the ways in which it is made wrong."""

from pathlib import Path

import pytest

from gdnbench.check.new import new_mixer
from gdnbench.models import registry


@pytest.fixture
def planted(tmp_path):
    """Return a function that writes the mixer that `new-mixer` writes with some text of it replaced."""

    def write(name, *changes):
        path, _ = new_mixer(name, tmp_path)
        text = path.read_text()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path.write_text(text)
        return path

    return write


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Files that a test adds are known to this test only."""
    monkeypatch.setattr(registry, "_added", {})


@pytest.fixture
def root():
    """The folder of the repository."""
    return Path(__file__).parents[2]
