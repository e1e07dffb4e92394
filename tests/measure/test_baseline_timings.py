"""Two trees timed in turn: a slower one is found, an equal one passes, and what cannot be compared says why."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gdnbench_kernels import gated_delta

from gdnbench.errors import GdnbenchError
from gdnbench.measure.kernels.case import Shape
from gdnbench.measure.regression import interleaved
from gdnbench.measure.regression.cases import Case, cases
from gdnbench.measure.regression.check import percentage
from gdnbench.measure.regression.interleaved import CannotTime
from gdnbench.measure.regression.trees import baseline_tree, this_tree
from gdnbench.measure.regression.workers import workers

ROOT = Path(__file__).resolve().parents[2]
SHAPE = Shape(1, 8, 1, 8, 8)
CASE = Case(shape=SHAPE, direction="forward", timing="eager", backend="torch", dtype="float32", device="cpu")

# Twenty times what the call takes on one thread (see `one_thread`), so that no busy machine hides it.
SLOW = """
import time as _time
_rule = gated_delta_rule
def gated_delta_rule(*arguments, **settings):
    _time.sleep(0.03)
    return _rule(*arguments, **settings)
"""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Where others use the cores too, threads wait for each other, a thousand times longer than they compute."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


class Scripted:
    """A timer that says what it was told, on a clock that drifts with every block."""

    def __init__(self, clock, ms):
        self.clock, self.ms = clock, ms

    def prepare(self, case):
        return "scripted"

    def time(self, block_ms):
        self.clock.append(1)
        return self.ms * (1 + 0.01 * len(self.clock))


class Refusing(Scripted):
    def prepare(self, case):
        raise CannotTime("baseline HEAD: it has no backend 'triton'")


class ByTheKernels(Scripted):
    def prepare(self, case):
        return "sum of kernel times"


def compare(before, now, threshold=0.03):
    clock = []
    (found,) = interleaved.compare(Scripted(clock, before), Scripted(clock, now), [CASE], threshold, rounds=9)
    return found


@pytest.mark.parametrize(
    ("now", "verdict"), [(1.0, "same"), (1.02, "same"), (1.04, "slower"), (0.9, "faster"), (2.0, "slower")]
)
def test_verdicts_on_a_drifting_clock(now, verdict):
    found = compare(1.0, now)
    assert found.verdict == verdict
    assert found.ratio.value == pytest.approx(now, rel=1e-3), "drift falls on both alike"


def test_an_interval_across_the_threshold_is_undecided():
    noisy = interleaved.Ratio(value=1.03, low=1.0, high=1.06)
    assert interleaved.judge(noisy, 0.03) == "undecided"
    assert interleaved.judge(noisy, 0.10) == "same"


def test_a_case_that_a_tree_does_not_serve_says_why_once():
    clock = []
    two = cases([SHAPE], None, backend="torch", device="cpu")[:2]
    found = interleaved.compare(Refusing(clock, 1.0), Scripted(clock, 1.0), two, 0.03)
    assert [one.verdict for one in found] == ["not measured", "not measured"]
    assert "\n".join(interleaved.lines(found)).count("no backend 'triton'") == 1


def test_two_ways_of_timing_are_not_compared():
    (found,) = interleaved.compare(Scripted([], 1.0), ByTheKernels([], 1.0), [CASE], 0.03)
    assert found.verdict == "not measured"
    assert "scripted; sum of kernel times" in found.reason


@pytest.mark.parametrize("text", ["0%", "3", "three", "-1%", ""])
def test_thresholds_are_percentages(text):
    with pytest.raises(GdnbenchError, match="expected a percentage above 0, such as 3%"):
        percentage(text)


def plant(tree):
    """Make a tree's gated delta rule slower."""
    with (tree / "kernels/gdnbench_kernels/gated_delta/api.py").open("a", encoding="utf-8") as file:
        file.write(SLOW)


@pytest.fixture
def copied(tmp_path):
    """A tree with the kernels of this one."""
    shutil.copytree(
        Path(gated_delta.__file__).parents[2], tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path


def test_a_slower_tree_is_found_and_each_process_runs_its_own_kernels(copied):
    plant(copied)
    with baseline_tree(None, copied) as other, workers(this_tree(), other) as (fast, slow):
        (slower,) = interleaved.compare(fast, slow, [CASE], 1.0, rounds=5)
        (faster,) = interleaved.compare(slow, fast, [CASE], 1.0, rounds=5)
        processes = [worker.process for worker in (fast, slow)]
    assert slower.verdict == "slower"
    assert slower.this_ms > 30
    assert faster.verdict == "faster"
    assert all(process.poll() is not None for process in processes), "none is left behind"


def test_what_a_tree_raises_is_the_reason(copied):
    api = copied / "kernels/gdnbench_kernels/gated_delta/api.py"
    api.write_text(api.read_text().replace("normalize_qk", "normalized"))
    raw = cases([SHAPE], None, backend="torch", device="cpu")[2]
    unknown = cases([SHAPE], None, backend="none", device="cpu")[0]
    with baseline_tree(None, copied) as other, workers(other, this_tree()) as (old, new):
        found = interleaved.compare(old, new, [raw, unknown], 1.0, rounds=5)
    first, second = (one.reason for one in found)
    assert f"{copied}: TypeError: " in first
    assert "normalize_qk" in first
    assert "BackendUnavailable: backend 'none' does not serve gated_delta; these do:" in second


def test_a_process_that_dies_says_its_last_words(copied):
    api = copied / "kernels/gdnbench_kernels/gated_delta/api.py"
    api.write_text(
        api.read_text()
        + "\nimport os as _os, sys as _sys\nprint('farewell', file=_sys.stderr, flush=True)\n_os._exit(3)\n"
    )
    with baseline_tree(None, copied) as other, workers(other, this_tree()) as (old, new):
        (found,) = interleaved.compare(old, new, [CASE], 1.0, rounds=5)
    assert found.verdict == "not measured"
    assert "its process ended: farewell" in found.reason


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(copied):
    """A repository of two commits with this tree's code."""
    shutil.copytree(ROOT / "gdnbench", copied / "gdnbench", ignore=shutil.ignore_patterns("__pycache__"))
    (copied / ".gitignore").write_text("__pycache__/\n")
    git(copied, "init", "-q")
    git(copied, "add", "-A")
    git(copied, "commit", "-qm", "first")
    (copied / "README.md").write_text("x")
    git(copied, "add", "-A")
    git(copied, "commit", "-qm", "second")
    return copied


def bench_check(checkout, *arguments):
    path = os.pathsep.join([str(checkout), str(checkout / "kernels")])
    command = [sys.executable, "-m", "gdnbench", "bench", "check", "--timings-only", "--device", "cpu"]
    done = subprocess.run(
        [*command, "--shapes", str(SHAPE), "--rounds", "5", "--threshold", "300%", *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    return done


def test_the_command_finds_a_planted_slowdown_against_the_commit_below_it(checkout):
    equal = bench_check(checkout)
    assert equal.returncode == 0, equal.stdout + equal.stderr
    assert "against HEAD~1 (" in equal.stdout
    assert "first)" in equal.stdout
    plant(checkout)
    slower = bench_check(checkout)
    assert slower.returncode == 1, slower.stdout + slower.stderr
    assert "and changes) against HEAD (" in slower.stdout
    assert "slower" in slower.stdout
    unknown = bench_check(checkout, "--baseline", "no-such-commit")
    assert unknown.returncode == 2
    assert "no-such-commit" in unknown.stderr
    worktrees = subprocess.run(["git", "-C", checkout, "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(worktrees.stdout.splitlines()) == 1, "none is left behind"


def test_a_tree_without_git_wants_a_folder(tmp_path):
    with pytest.raises(GdnbenchError, match="--baseline-path"), baseline_tree(None, None, root=tmp_path):
        pass
    with pytest.raises(GdnbenchError, match="kernels/gdnbench_kernels"), baseline_tree(None, tmp_path):
        pass
    with pytest.raises(GdnbenchError, match="exclude each other"), baseline_tree("HEAD", tmp_path):
        pass
