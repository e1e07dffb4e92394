"""A rendered set for the tests of the report; `synthetic.py` beside this file makes the records."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

COMMAND = "gdnbench report quick"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gdnbench_test_synthetic", Path(__file__).parent / "synthetic.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def unsynced():
    """Made-up records need not outlive a power failure; waiting for the disk is most of what writing them takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The module that makes synthetic sets."""
    return _load()


@pytest.fixture(scope="session")
def store(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory):
    """A whole set, of which tests only read."""
    return synthetic.full_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="session")
def report(store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the rendered set."""
    from gdnbench.report import render

    out = tmp_path_factory.mktemp("reports") / "quick"
    render(store, out, command=COMMAND)
    return out
