"""Arms of a comparison get the reference's budget, or an error that says how close one can come."""

import re

import pytest

from gdnbench.configuration import from_mapping
from gdnbench.errors import GdnbenchError
from gdnbench.models.config import MLP_STEP
from gdnbench.plan.budgets import counts, match
from gdnbench.plan.expand import expand
from gdnbench.plan.spec import Training
from gdnbench.presets import Preset, load_preset
from tests.runs.tiny import study, sweep


def comparison(by, arms=(), **changes):
    arms = [{"name": "T", "arch": "transformer"}, *arms]
    match_by = {"by": by, "reference": "T", "tolerance": changes.pop("tolerance", 0.01)}
    match_by["uniform"] = changes.pop("uniform", False)
    experiment = sweep(kind="comparison", widths=[32], arms=arms, match=match_by, **changes)
    plan = expand(from_mapping(Preset, study(experiment), "tiny"), {})
    return {spec.arm: spec for spec in plan.runs}


def non_embedding(spec):
    return counts(spec.model, spec.training.seq_len).params_non_embedding


def test_all_arms_of_quicks_comparison_have_equal_parameters():
    runs = [spec for spec in expand(load_preset("quick"), {}).runs if spec.experiment == "comparison"]
    sizes = {spec.arm: non_embedding(spec) for spec in runs}
    assert len(sizes) == 6
    target = sizes["Transformer+μP"]
    for arm, size in sizes.items():
        assert abs(size / target - 1) < 0.01, arm
    for spec in runs:
        assert spec.matched.deviation == pytest.approx(non_embedding(spec) / target - 1)
        assert spec.matched.reference == "Transformer+μP"


@pytest.mark.parametrize("name", ["quick", "h200-125m", "paper"])
def test_every_arm_of_a_comparison_has_the_same_budget_and_as_many_trials(name):
    preset = load_preset(name)
    planned = expand(preset, {}).runs
    for experiment in (e for e in preset.experiments if e.kind == "comparison"):
        runs = [s for s in planned if s.experiment == experiment.name and s.seed == 0]
        trials = {arm.name: sum(spec.arm == arm.name for spec in runs) for arm in experiment.arms}
        if experiment.name != "comparison-1.5b":  # where nothing is tuned under muP: that is its point
            assert len(set(trials.values())) == 1, trials
        assert all(abs(spec.matched.deviation) < 0.01 for spec in runs)
        assert len({spec.training.steps * spec.training.batch_size * spec.training.seq_len for spec in runs}) == 1


def test_mlp_widths_are_steps_of_16_and_differ_by_one_step_at_most():
    for spec in expand(load_preset("quick"), {}).runs:
        widths = spec.model.mlp_width
        if widths is not None:
            widths = widths if isinstance(widths, tuple) else (widths,) * spec.model.depth
            assert len(widths) == spec.model.depth
            assert all(width % MLP_STEP == 0 for width in widths)
            assert max(widths) - min(widths) in (0, MLP_STEP)


def test_where_one_width_is_too_coarse_layers_get_widths_of_their_own():
    gdn = {"name": "G", "arch": "gdn"}
    spec = comparison("parameters", [gdn], model={"depth": 4}, tolerance=0.02)["G"]
    step = 3 * MLP_STEP * spec.model.width
    gap = abs(non_embedding(spec) - non_embedding(comparison("parameters", model={"depth": 4})["T"]))
    assert gap <= step / 2, "half a step of one layer is the most that a solver over layers leaves"


def test_all_layers_may_be_asked_to_have_one_width():
    gdn = {"name": "G", "arch": "gdn"}
    exact = comparison("parameters", [gdn], model={"depth": 4}, tolerance=0.2)["G"]
    even = comparison("parameters", [gdn], model={"depth": 4}, tolerance=0.2, uniform=True)["G"]
    assert isinstance(exact.model.mlp_width, tuple)
    assert isinstance(even.model.mlp_width, int)
    assert abs(exact.matched.deviation) < abs(even.matched.deviation)
    step = 3 * MLP_STEP * even.model.width * 4
    gap = abs(non_embedding(even) - non_embedding(comparison("parameters", model={"depth": 4})["T"]))
    assert gap <= step / 2, "half a step of all layers is the most that one width leaves"


def test_the_reference_itself_is_matched_exactly():
    assert comparison("parameters")["T"].matched.deviation == 0


def test_a_model_without_a_width_to_choose_is_refused_with_its_distance():
    native = {"name": "M", "arch": "mamba2", "model": {"block": "native", "geometry": "fixed_head"}}
    with pytest.raises(GdnbenchError) as caught:
        comparison("parameters", [native])
    stated = re.search(r"([+-]\d+\.\d+)%", str(caught.value))
    assert stated, caught.value
    assert abs(float(stated.group(1))) > 1
    assert "mamba2" in str(caught.value)
    assert "tolerance" in str(caught.value)
    wide = comparison("parameters", [native], tolerance=10.0)
    assert f"{wide['M'].matched.deviation:+.2%}" == f"{stated.group(1)}%"


def test_equal_flops_are_a_matter_of_steps():
    gdn = {"name": "G", "arch": "gdn", "model": {"mlp_ratio": 4.0}}
    runs = comparison("flops", [gdn], training={"steps": 400}, tolerance=0.01)
    spent = {
        arm: counts(spec.model, spec.training.seq_len).train_flops_per_token * spec.training.steps
        for arm, spec in runs.items()
    }
    assert runs["G"].training.steps < runs["T"].training.steps == 400
    assert spent["G"] / spent["T"] - 1 == pytest.approx(runs["G"].matched.deviation)
    assert abs(runs["G"].matched.deviation) < 0.01


def test_flops_that_whole_steps_cannot_meet_are_refused():
    with pytest.raises(GdnbenchError, match=r"by flops is [+-]\d"):
        comparison("flops", [{"name": "G", "arch": "gdn", "model": {"mlp_ratio": 4.0}}], training={"steps": 2})


def test_equal_tokens_leave_models_and_steps_alone():
    runs = comparison("tokens", [{"name": "G", "arch": "gdn"}])
    assert runs["G"].training == runs["T"].training
    assert runs["G"].model.mlp_width is None
    assert runs["G"].matched.by == "tokens"


def test_equal_time_needs_a_time():
    with pytest.raises(GdnbenchError, match=r"training\.seconds"):
        comparison("wall_clock")
    assert comparison("wall_clock", training={"seconds": 2.0})["T"].training.seconds == 2.0


def test_counts_do_not_depend_on_what_was_counted_before():
    spec = comparison("parameters", [{"name": "G", "arch": "gdn"}], tolerance=0.05)["G"]
    first = counts(spec.model, 64)
    assert counts(spec.model, 128).params_total == first.params_total
    assert counts(spec.model, 64) == first


def test_matching_is_a_pure_function():
    spec = comparison("parameters")["T"]
    twice = [match("parameters", "T", spec.model, spec.model, Training(), 0.01) for _ in range(2)]
    assert twice[0] == twice[1]
