"""The command line in this process, with its output and exit code."""

import signal
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from gdnbench import cli


class Ended(NamedTuple):
    """What a command left: exit code, standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def offline():
    with pytest.MonkeyPatch.context() as patch:
        # A worker of a command must not ask the network for anything.
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Return a function that calls ``gdnbench`` with arguments in an empty folder."""
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["gdnbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return Ended(ended.value.code or 0, out, err)

    monkeypatch.setenv("COLUMNS", "200")
    yield call
    signal.signal(signal.SIGTERM, handler)
