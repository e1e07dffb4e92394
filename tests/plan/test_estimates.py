"""What a plan will cost: finite numbers, from formulas and a probe, on a machine that has no GPU."""

import dataclasses
import math

import pytest

from gdnbench import launch
from gdnbench.configuration import from_mapping
from gdnbench.plan import estimate
from gdnbench.plan.expand import expand
from gdnbench.plan.speed import BESIDE, Measured, Speeds, speeds
from gdnbench.presets import Preset, load_preset
from gdnbench.results import Store
from gdnbench.runs.execute import execute
from gdnbench.runs.progress import Observer
from tests.runs.tiny import study, sweep, write_study

SLOW = Speeds(device="cpu", peak=3e10, source="made up")


def test_every_run_of_quick_has_a_finite_cost():
    for spec in expand(load_preset("quick"), {}).runs:
        seconds, peak = estimate.seconds(spec, SLOW), estimate.peak_gib(spec)
        assert 0 < seconds < 600
        assert 0.1 < peak < 4
        assert math.isfinite(estimate.flops(spec))


def test_cost_grows_with_width_and_with_steps(tmp_path):
    def flops(**changes):
        path = write_study(tmp_path / "p.yaml", sweep(**changes))
        return estimate.flops(expand(load_preset(str(path)), {}).runs[0])

    assert flops(widths=[32]) > flops(widths=[16])
    # Evaluation costs the same however long the training is.
    steps = [flops(training={"steps": n}) for n in (10, 20, 30)]
    assert steps[2] - steps[1] == steps[1] - steps[0] > 0


def test_a_given_time_is_the_estimate(tmp_path):
    path = write_study(tmp_path / "p.yaml", training={"seconds": 12.5})
    assert estimate.seconds(expand(load_preset(str(path)), {}).runs[0], SLOW) == 12.5


def test_makespan():
    assert estimate.makespan([3, 1, 1, 1], 1) == 6
    assert estimate.makespan([3, 1, 1, 1], 2) == 3
    assert estimate.makespan([], 2) == 0


def test_looking_ahead_writes_nothing(tmp_path):
    chosen = launch.choose(str(write_study(tmp_path / "p.yaml")))
    lines = launch.outlook(chosen, tmp_path / "results", "tiny", 2).lines()
    assert any("1 run" in line for line in lines)
    assert not (tmp_path / "results").exists()


def test_a_preset_for_a_gpu_is_planned_without_one(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = write_study(tmp_path / "p.yaml", device="cuda", suits="gpu", dtype="bfloat16")
    outlook = launch.outlook(launch.choose(str(path)), tmp_path, "tiny", None)
    assert all(math.isfinite(cost.seconds) for cost in outlook.costs.values())


@pytest.mark.parametrize("suffix", [("corpus", "text:/data/My Books"), ("tokenizer", "bpe:300"), ("backend", "torch")])
def test_overridden_runs_get_a_set_of_their_own(tmp_path, suffix):
    path = str(write_study(tmp_path / "p.yaml"))
    name, value = suffix
    chosen = launch.choose(path, **{name: value})
    assert chosen.set.startswith("tiny-")
    assert chosen.set.replace("-", "").isalnum()


def test_less_fits_a_smaller_gpu_and_passes_make_it_fit(tmp_path):
    path = write_study(tmp_path / "p.yaml", training={"batch_size": 64, "seq_len": 4096})
    (spec,) = expand(load_preset(str(path)), {}).runs
    whole = estimate.peak_gib(spec)
    passed, fits = estimate.micro_batch_that_fits(spec, whole / 2, 0.0)
    assert passed == 64
    assert 1 <= fits < 40
    execution = dataclasses.replace(spec.execution, micro_batch=fits)
    assert estimate.peak_gib(dataclasses.replace(spec, execution=execution)) <= whole / 2
    assert estimate.micro_batch_that_fits(spec, whole / 2, 2 * whole)[1] < fits, "what it really held counts"
    assert estimate.micro_batch_that_fits(spec, 1e-3, 0.0)[1] == 0


def test_speed_is_that_of_similar_stored_runs():
    measured = (
        Measured(arch="gdn", params=1e8, rate=2e14, beside=7.0),
        Measured(arch="gdn", params=1e7, rate=5e13, beside=None),
        Measured(arch="transformer", params=1e8, rate=3e14, beside=9.0),
    )
    known = Speeds(device="cuda", peak=7e14, measured=measured, source="made up")
    assert known.rate("gdn", 1e8) == 2e14
    assert known.beside("gdn", 1e8) == 7.0
    assert 1e8 < known.rate("gdn", 3e7) < 2e14
    assert known.rate("rwkv7", 1e8) in (2e14, 2.5e14, 3e14), "another architecture's, of its size"
    assert known.beside("gdn", 1e7) == BESIDE["cuda"]


def test_speeds_come_from_records_of_the_device(tmp_path, books):
    (spec,) = expand(from_mapping(Preset, study(corpus=books, training={"steps": 12}), "tiny"), {}).runs
    store = Store(tmp_path, "s")
    record = execute(spec, store, Observer())
    known = speeds([record], "cpu")
    assert "1 stored run" in known.told(1) and "shared" not in known.told(1)
    crowded = dataclasses.replace(record, environment={**record.environment, "workers": 4})
    assert "1 of which shared it with up to 3 others and would be faster alone" in speeds(
        [record, crowded], "cpu"
    ).told(1)
    (measured,) = known.measured
    assert measured.rate == pytest.approx(record.metric("tokens_per_s") * record.metric("flops_per_token"))
    # Of so short a run, what the clock saw beside its steps may be nothing.
    assert measured.beside == record.metric("beside_s") >= 0
    elsewhere = dataclasses.replace(record, environment={**record.environment, "device": "another processor"})
    assert speeds([elsewhere], "cpu").measured == ()


@pytest.fixture
def shared_gpu(tmp_path, monkeypatch, books):
    """A study of eight runs on a GPU, and beside its set another whose run took long with three others."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (spec,) = expand(from_mapping(Preset, study(corpus=books, training={"steps": 12}), "tiny"), {}).runs
    store = Store(tmp_path / "results", "measured")
    record = execute(spec, store, Observer())
    measured = {"tokens_per_s": {"value": 1.0, "unit": "tokens/s"}, "beside_s": {"value": 3.0, "unit": "s"}}
    metrics = {**record.metrics, **measured}
    environment = {**record.environment, "device": "a GPU", "workers": 4}
    store.write(
        dataclasses.replace(record, spec={**record.spec, "device": "cuda"}, metrics=metrics, environment=environment)
    )
    path = write_study(
        tmp_path / "p.yaml", sweep(log2_lrs=list(range(-10, -2))), corpus=books, device="cuda", suits="gpu"
    )
    return launch.choose(str(path)), tmp_path / "results"


def test_what_runs_took_together_is_what_they_will_take_together(shared_gpu):
    """Of n runs of t seconds each, made k at once, the machine finished k in t: k workers need n t / k."""
    chosen, results = shared_gpu

    def planned(workers):
        outlook = launch.outlook(chosen, results, "tiny", workers)
        each = {cost.seconds for cost in outlook.costs.values()}
        hours = sum(row["seconds"] for row in outlook.left())
        return outlook, each.pop(), hours

    outlook, t, hours = planned(4)
    n = len(outlook.runs) + sum(count for _, count in outlook.following)
    assert n % 8 == 0 and t > 60
    expected = f"expected: {n * t / 4 / 60:,.1f} min ({n * t / 4 / 3600:.1f} GPU-hours) with 4 at once"
    assert outlook.summary()[-1].startswith(expected)
    assert hours == pytest.approx(n * t / 4, abs=1)
    assert "faster" not in outlook.rate_source and "not counted" not in outlook.rate_source

    outlook, alone, hours = planned(1)
    assert alone == t and hours == pytest.approx(n * t, abs=1)
    assert "would be faster alone" in outlook.rate_source

    outlook, crowded, hours = planned(8)
    assert crowded == pytest.approx(2 * t - 3), "seconds beside the steps are no work of the GPU's"
    assert hours == pytest.approx(n * crowded / 8, abs=1)
    assert "more at once is not counted" in outlook.rate_source


def test_runs_are_begun_by_the_same_estimate(shared_gpu, monkeypatch):
    from rich.console import Console

    from gdnbench.launch import running

    chosen, results = shared_gpu
    asked = {}
    monkeypatch.setattr(running, "reproduce_runs", lambda *args, **given: asked.update(given))
    for workers in (1, 4, 8):
        outlook = launch.outlook(chosen, results, "tiny", workers)
        running.run(chosen, results, "tiny", workers=workers, console=Console())
        assert asked["workers"] == workers
        assert {s.run_id: asked["expected"](s) for s in outlook.runs} == {
            i: c.seconds for i, c in outlook.costs.items()
        }


def test_generation_is_timed_alone():
    known = Speeds(device="cuda", peak=7e14, source="made up")
    (spec, *_) = [spec for spec in expand(load_preset("quick"), {}).runs if spec.kind == "decode"]
    spec = dataclasses.replace(spec, device="cuda")
    assert estimate.at_once(spec, 4) == 1
    assert estimate.seconds(spec, known, 4) == estimate.seconds(spec, known)


def test_processors_are_not_shared():
    measured = (Measured(arch="gdn", params=1e6, rate=1e9, beside=1.0, at_once=2),)
    known = Speeds(device="cpu", peak=3e10, measured=measured, source="made up")
    assert known.rate("gdn", 1e6, 4) == known.rate("gdn", 1e6, 1) == pytest.approx(1e9)
