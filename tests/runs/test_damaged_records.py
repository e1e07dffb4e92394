"""The command finds damaged results, says which, and runs them again."""

import sys

import pytest

from gdnbench import cli
from gdnbench.results import Store
from gdnbench.runs.execute import execute
from gdnbench.runs.progress import Observer
from tests.runs.tiny import numbers, specs, sweep, write_study

SWEEP = sweep(seeds=[0, 1], refine="all")


@pytest.fixture
def damaged(tmp_path, books, monkeypatch):
    """A set of two runs, one with a changed record and one with a changed row."""
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path / "tiny.yaml", SWEEP, corpus=books)
    store = Store(tmp_path / "results", "tiny")
    runs = [spec.run_id for spec in specs(books, SWEEP) if execute(spec, store, Observer())]
    before = [numbers(store, run_id) for run_id in runs]
    path = store.run_folder(runs[0]) / "run.json"
    path.write_text(path.read_text().replace('"finished"', '"diverged"'))
    with store.rows_path(runs[1]).open("a") as rows:
        rows.write("{}\n")
    return store, runs, before


def called(monkeypatch, capfd, *arguments):
    monkeypatch.setattr(sys, "argv", ["gdnbench", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capfd.readouterr()
    return ended.value.code, out + err


@pytest.mark.parametrize("command", [("results", "tiny"), ("plan", "tiny.yaml")], ids=["results", "plan"])
def test_reading_a_damaged_set_names_its_files(damaged, monkeypatch, capfd, command):
    _, runs, _ = damaged
    code, said = called(monkeypatch, capfd, *command)
    assert code == 0
    for run_id in runs:
        assert f"{run_id}/run.json" in said


def test_reproduce_names_them_and_runs_them_again(damaged, monkeypatch, capfd):
    store, runs, before = damaged
    code, said = called(monkeypatch, capfd, "reproduce", "tiny.yaml", "--no-report", "--workers", "1")
    assert code == 0
    assert [numbers(store, run_id) for run_id in runs] == before
    for run_id in runs:
        assert (store.run_folder(run_id) / "run.json.corrupt").exists()
        assert f"{run_id}/run.json" in said, "nobody was told"
