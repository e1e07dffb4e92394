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
    assert any("1 runs" in line for line in lines)
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
    assert "1 stored runs" in known.source and "shared" not in known.source
    crowded = dataclasses.replace(record, environment={**record.environment, "workers": 4})
    assert "1 of which shared it with up to 3 others" in speeds([record, crowded], "cpu").source
    (measured,) = known.measured
    assert measured.rate == pytest.approx(record.metric("tokens_per_s") * record.metric("flops_per_token"))
    # Of so short a run, what the clock saw beside its steps may be nothing.
    assert measured.beside == record.metric("beside_s") >= 0
    elsewhere = dataclasses.replace(record, environment={**record.environment, "device": "another processor"})
    assert speeds([elsewhere], "cpu").measured == ()
