"""The command itself, killed and interrupted in the middle of its work: the next call ends at the same bits."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch

from gdnbench.presets import load_preset
from gdnbench.results import Store
from gdnbench.runs.execute import execute
from gdnbench.runs.progress import Observer
from tests.runs.tiny import gdnbench, kill_group, numbers, specs, start, sweep, write_study

# Two architectures, each long enough to be disturbed several times.
ARMS = [{"name": "G", "arch": "gdn", "table": "mup_gdn"}, {"name": "T", "arch": "transformer"}]
TRAINING = {"steps": 400, "checkpoint_every": 10}
OPTIONS = ("--no-report", "--deterministic", "--workers", "2")


@pytest.fixture(autouse=True)
def like_a_worker():
    """Runs in this process compute as those in a worker do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def preset(tmp_path_factory, books) -> Path:
    path = tmp_path_factory.mktemp("presets") / "tiny.yaml"
    return write_study(path, sweep(arms=ARMS, widths=[32]), corpus=books, training=TRAINING)


def finish(preset: Path, folder: Path) -> dict[str, dict]:
    """Run what is missing in this process and return the numbers of all runs."""
    content = load_preset(str(preset))
    store = Store(folder / "results", "tiny")
    for spec in specs(content.corpus, sweep(arms=ARMS, widths=[32]), training=TRAINING):
        execute(spec, store, Observer())
    return stored(folder)


def stored(folder: Path) -> dict[str, dict]:
    store = Store(folder / "results", "tiny")
    found = {record.run_id: numbers(store, record.run_id) for record in store.records()}
    assert not store.damaged
    return found


@pytest.fixture
def uninterrupted(preset, like_a_worker) -> dict[str, dict]:
    return finish(preset, preset.parent)


def resumed_at(folder: Path) -> dict[str, list[int]]:
    """The steps at which each run went on, by its notes."""
    notes = {record.run_id: record.notes for record in Store(folder / "results", "tiny").records()}
    mark = "resumed at step "
    return {run_id: [int(n.removeprefix(mark)) for n in said if n.startswith(mark)] for run_id, said in notes.items()}


def checkpoints(folder: Path) -> dict[Path, int]:
    found = {}
    for path in folder.glob("results/tiny/runs/*/checkpoint.pt"):
        # Gone by now: its run has just ended.
        if path.exists():
            found[path] = path.stat().st_mtime_ns
    return found


def started(preset: Path, folder: Path):
    """Start the command and return when a run has written a checkpoint of this call."""
    before = checkpoints(folder)
    process = start("reproduce", preset, *OPTIONS, cwd=folder)
    wait_for(process, lambda: any(before.get(path) != now for path, now in checkpoints(folder).items()))
    return process


def wait_for(process, condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"over before it could be disturbed: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def workers_of(process) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if any("spawn_main" in part for part in child.cmdline())]


def end(process, timeout: float = 60) -> tuple[str, str]:
    """Wait for the end of a command that was disturbed; one that hangs is killed and fails the test."""
    try:
        return process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_group(process)
        process.communicate()
        raise


def test_kill_9_at_several_moments(tmp_path, preset, uninterrupted):
    rng = random.Random(time.time_ns())
    for _ in range(2):
        process = started(preset, tmp_path)
        time.sleep(rng.uniform(0, 0.2))
        kill_group(process)
        process.communicate()
    # And once the command alone: its workers must not go on with runs that the next call wants.
    process = started(preset, tmp_path)
    workers = workers_of(process)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    assert finish(preset, tmp_path) == uninterrupted
    steps = max(resumed_at(tmp_path).values(), key=len)
    assert len(steps) >= 1, "every start was from nothing"
    assert steps[0] > 0
    assert steps == sorted(steps)


INTERRUPTIONS = {
    "SIGTERM": lambda process: process.send_signal(signal.SIGTERM),
    # What a terminal does: the workers get it too.
    "Ctrl-C": lambda process: os.killpg(process.pid, signal.SIGINT),
}


@pytest.mark.parametrize("interrupt", INTERRUPTIONS.values(), ids=INTERRUPTIONS)
def test_an_interruption_is_one_line_and_loses_nothing(tmp_path, preset, uninterrupted, interrupt):
    process = started(preset, tmp_path)
    workers = workers_of(process)
    interrupt(process)
    _, err = end(process)
    assert process.returncode == 130
    assert [worker for worker in workers if worker.is_running()] == []
    assert finish(preset, tmp_path) == uninterrupted
    assert any(resumed_at(tmp_path).values())
    (line,) = err.strip().splitlines()
    assert line.startswith("gdnbench: stopped")


def test_ctrl_c_while_workers_start_is_one_line(tmp_path, preset):
    process = start("reproduce", preset, *OPTIONS, cwd=tmp_path)
    wait_for(process, lambda: workers_of(process))
    os.killpg(process.pid, signal.SIGINT)
    _, err = end(process)
    assert process.returncode == 130
    assert len(err.strip().splitlines()) == 1, err


def test_a_worker_that_is_killed_fails_its_run_only(tmp_path, preset, uninterrupted):
    process = started(preset, tmp_path)
    workers_of(process)[0].kill()
    out, err = end(process)
    assert process.returncode not in (0, 130)
    assert "killed by signal 9" in out
    found = stored(tmp_path)
    assert len(found) == 1
    (failed,) = uninterrupted.keys() - found.keys()
    (line,) = err.strip().splitlines()
    assert failed in line
    again = gdnbench("reproduce", preset, *OPTIONS, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert stored(tmp_path) == uninterrupted


def test_two_processes_share_one_store(tmp_path, preset, uninterrupted):
    processes = [start("reproduce", preset, *OPTIONS, cwd=tmp_path) for _ in range(2)]
    ends = [end(process, timeout=180) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    assert [err for _, err in ends] == ["", ""]
    assert stored(tmp_path) == uninterrupted
    assert not list(tmp_path.rglob("*.corrupt*"))
    assert {path.name for path in (tmp_path / "results" / "tiny" / "runs").iterdir()} == uninterrupted.keys()
