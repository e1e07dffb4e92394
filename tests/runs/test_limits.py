"""Limits: time that is up, runs that would not end in time, texts that are too short, a GPU that is not there."""

import math
import re
import time

import pytest

from gdnbench.configuration import from_mapping
from gdnbench.errors import GdnbenchError
from gdnbench.plan.expand import expand
from gdnbench.presets import Preset, load_preset
from gdnbench.results import Store
from gdnbench.runs.limit import TimeLimit
from gdnbench.runs.reproduce import View, reproduce
from gdnbench.runs.texts import check_epochs
from gdnbench.runs.worker import Settings
from tests.runs.tiny import gdnbench, study, sweep, write_study

ENDLESS = {"steps": 10**6, "checkpoint_every": 10**6}


def preset(corpus, *experiments, **changes):
    return from_mapping(Preset, study(*experiments, corpus=corpus, **changes), "tiny")


def run(chosen, store, expected=lambda spec: 1.0, **options):
    settings = Settings(root=store.folder.parent, set=store.name)
    return reproduce(chosen, store, settings, workers=1, view=View(), expected=expected, **options)


def test_when_time_is_up_the_run_is_saved_and_what_is_left_is_told(tmp_path, books):
    chosen, store = preset(books, sweep(log2_lrs=[-8, -7]), training=ENDLESS), Store(tmp_path, "s")
    started = time.monotonic()
    summary = run(chosen, store, limit=TimeLimit(seconds=12))
    assert 12 <= time.monotonic() - started < 120
    assert summary.stored == []
    assert not summary.failed
    assert (summary.left, summary.left_seconds) == (2, 2.0)
    assert len(list(store.folder.glob("runs/*/checkpoint.pt"))) == 1


def test_only_whole_runs_are_started(tmp_path, books):
    """The first by importance takes too long; the one behind it fits."""
    chosen, store = preset(books, sweep(widths=[16, 32])), Store(tmp_path, "s")
    seconds = {16: 1000.0, 32: 1.0}
    limit = TimeLimit(seconds=60, whole=True)
    summary = run(chosen, store, lambda spec: seconds[spec.model.width], limit=limit)
    (stored,) = summary.stored
    assert "-w32-" in stored
    assert (summary.left, summary.left_seconds) == (1, 1000.0)
    assert limit.left > 0, "it ends as soon as nothing more fits"


def test_a_limit_goes_by_importance_and_none_by_cost(tmp_path, books):
    chosen = preset(books, sweep(widths=[16, 32]))
    first = run(chosen, Store(tmp_path, "a"), lambda spec: float(spec.model.width), limit=TimeLimit(seconds=300))
    second = run(chosen, Store(tmp_path, "b"), lambda spec: float(spec.model.width))
    assert first.stored == second.stored[::-1]
    assert "-w16-" in first.stored[0]


def test_only_some_experiments(tmp_path, books):
    chosen, store = preset(books, sweep(), sweep(name="other")), Store(tmp_path, "s")
    summary = run(chosen, store, only=["other"])
    assert [name.partition("-")[0] for name in summary.stored] == ["other"]
    assert summary.left == 0


def test_a_text_that_is_too_short_says_how_many_epochs_it_would_be(books):
    runs = expand(preset(books, training={"steps": 2000}), {}).runs
    with pytest.raises(GdnbenchError) as caught:
        check_epochs(runs, 1.05)
    message = str(caught.value)
    epochs = float(re.search(r"that is ([\d.]+) epochs", message).group(1))
    asked, there = (int(n.replace(",", "")) for n in re.findall(r"([\d,]+)(?: tokens a run|: that is)", message))
    assert asked == 2000 * 2 * 16
    assert epochs == pytest.approx(asked / there, rel=0.01)
    allowed = float(re.search(r"--allow-epochs ([\d.]+)", message).group(1))
    check_epochs(runs, allowed)
    check_epochs(runs, None)


def test_the_presets_that_ship_say_how_often_a_text_is_seen():
    assert load_preset("quick").max_epochs is None
    assert Preset(name="n", title="", about="", experiments=()).max_epochs == pytest.approx(1.05)


def test_the_command_stops_in_time_and_says_how_to_go_on(tmp_path, books):
    path = write_study(tmp_path / "p.yaml", sweep(log2_lrs=[-8, -7]), corpus=books, training=ENDLESS)
    done = gdnbench("reproduce", path, "--max-minutes", "0.2", "--no-report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "stops after 0.2 min" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("time is up")]
    assert "2 runs are left" in line
    assert line.endswith(f"gdnbench reproduce {path} --max-minutes 0.2 --no-report")


def test_the_command_refuses_repetition_unless_it_is_allowed(tmp_path, books):
    path = write_study(tmp_path / "p.yaml", corpus=books, max_epochs=0.01)
    refused = gdnbench("reproduce", path, "--no-report", cwd=tmp_path)
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    allowed = re.search(r"--allow-epochs ([\d.]+)", line).group(1)
    assert not list(tmp_path.glob("results/tiny/runs/*/metrics.jsonl"))
    accepted = gdnbench("reproduce", path, "--no-report", "--allow-epochs", allowed, cwd=tmp_path)
    assert accepted.returncode == 0, accepted.stderr


def test_the_command_ends_when_nothing_more_fits(tmp_path, books):
    path = write_study(tmp_path / "p.yaml", corpus=books, training=ENDLESS)
    done = gdnbench("reproduce", path, "--max-minutes", "2", "--whole-runs", "--no-report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no other run is expected to end in time: about 1 run is left" in done.stdout


def test_a_gpu_that_is_not_there_is_refused_with_what_it_takes(tmp_path, books):
    path = write_study(tmp_path / "p.yaml", corpus=books, device="cuda", dtype="bfloat16", suits="gpu")
    done = gdnbench("reproduce", path, cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert re.search(r"bfloat16 and about [\d.]+ GiB of memory", line)
    assert f"gdnbench plan {'tiny'}" in line


def test_whole_runs_go_with_a_limit(tmp_path, books):
    path = write_study(tmp_path / "p.yaml", corpus=books)
    done = gdnbench("reproduce", path, "--whole-runs", cwd=tmp_path)
    assert done.returncode == 2
    assert "--max-minutes" in done.stderr


def test_no_limit_is_infinite():
    limit = TimeLimit(seconds=math.inf)
    assert limit.allows(1e9)
    assert not TimeLimit(seconds=0).allows(0)
