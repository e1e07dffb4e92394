"""A disk without room is one line and a non-zero exit; nothing is half-written, and with room the work goes on."""

import contextlib
import errno
import os
import resource

import pytest

from gdnbench.errors import GdnbenchError
from gdnbench.files import write_text
from gdnbench.results import Store
from gdnbench.runs.execute import execute
from gdnbench.runs.progress import Observer
from gdnbench.runs.rows import Rows
from tests.runs.tiny import gdnbench, leftovers, numbers, specs, sweep, write_study


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_text(path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GdnbenchError, match="file: no space left on device"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert not leftovers(tmp_path)


def test_rows_that_do_not_fit(tmp_path, monkeypatch):
    rows = Rows(tmp_path / "metrics.jsonl", 0)
    monkeypatch.setattr(os, "fsync", full)
    rows.append({"step": 1})
    with pytest.raises(GdnbenchError, match="no space left"):
        rows.flush()


def test_a_run_on_a_full_disk_is_not_stored_and_goes_on_later(tmp_path, books, monkeypatch):
    (spec,) = specs(books)
    store = Store(tmp_path, "s")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(GdnbenchError, match="no space left"):
            execute(spec, store, Observer())
    assert store.read(spec.run_id) is None
    assert not leftovers(tmp_path)
    execute(spec, store, Observer())
    whole = Store(tmp_path, "whole")
    execute(spec, whole, Observer())
    assert numbers(store, spec.run_id) == numbers(whole, spec.run_id)


@contextlib.contextmanager
def files_up_to(size):
    """Let no process started here write a file of more bytes: a full disk takes an administrator to make."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("room", "training"),
    [(20_000, {"checkpoint_every": 4}), (6_000, {"checkpoint_every": 10**6, "log_every": 1, "steps": 200})],
    ids=["checkpoint", "rows"],
)
def test_the_command_when_files_cannot_grow(tmp_path, books, room, training):
    (spec,) = specs(books, training=training)
    # Token files are built before the limit is there.
    execute(spec, Store(tmp_path, "whole"), Observer())
    preset = write_study(tmp_path / "tiny.yaml", sweep(), corpus=books, training=training)
    with files_up_to(room):
        done = gdnbench("reproduce", preset, "--no-report", "--workers", "1", cwd=tmp_path)
    assert done.returncode not in (0, 130)
    (line,) = done.stderr.strip().splitlines()
    assert "cannot be written" in line or "no space" in line
    store = Store(tmp_path / "results", "tiny")
    assert not store.records()
    assert not leftovers(tmp_path)
    execute(spec, store, Observer())
    assert numbers(store, spec.run_id) == numbers(Store(tmp_path, "whole"), spec.run_id)


def test_a_run_that_cannot_be_saved_when_another_one_failed_is_not_waited_for(tmp_path, books):
    """The first run meets the limit and all are asked to save and end; the second cannot save either."""
    first = sweep(training={"steps": 40, "checkpoint_every": 20})
    second = sweep(name="long", training={"steps": 5000, "checkpoint_every": 10**6, "log_every": 10**6})
    for spec in specs(books):
        execute(spec, Store(tmp_path, "warm"), Observer())
    preset = write_study(tmp_path / "tiny.yaml", first, second, corpus=books)
    with files_up_to(20_000):
        done = gdnbench("reproduce", preset, "--no-report", "--workers", "2", cwd=tmp_path, timeout=45)
    assert done.returncode not in (0, 130)
    (line,) = done.stderr.strip().splitlines()
    assert "cannot be written" in line
