"""What a plan will cost: finite numbers, from formulas and a probe, on a machine that has no GPU."""

import math

import pytest

from gdnbench import launch
from gdnbench.plan import estimate
from gdnbench.plan.expand import expand
from gdnbench.plan.speed import Speeds
from gdnbench.presets import load_preset
from tests.runs.tiny import sweep, write_study

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
