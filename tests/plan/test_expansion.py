"""A plan grows with the losses, by rules that a reader can follow, and by nothing else."""

import math

import pytest

from gdnbench.configuration import canonical_json, from_mapping
from gdnbench.plan.expand import expand
from gdnbench.presets import Preset
from tests.runs.tiny import study, sweep


def preset(*experiments, **changes):
    return from_mapping(Preset, study(*experiments, **changes), "tiny")


def swept(**changes):
    return preset(sweep(**{"log2_lrs": [-9, -8, -7], "seeds": [0, 1, 2], "extend": 1, **changes}))


def points(plan):
    """Return the plan as {(log2 learning rate, seed)}, which also shows that no run is listed twice."""
    found = [(math.log2(spec.optimizer.lr), spec.seed) for spec in plan.runs]
    assert len(set(found)) == len(found)
    return set(found)


def losses(plan, loss):
    """Return a loss for every run of the plan, as a function of log2 learning rate and seed."""
    return {spec.run_id: loss(math.log2(spec.optimizer.lr), spec.seed) for spec in plan.runs}


def settled(chosen, loss):
    """Run a plan to its end; return it and the number of rounds."""
    known, rounds = {}, 0
    while True:
        plan = expand(chosen, known)
        now = losses(plan, loss)
        if now.keys() <= known.keys():
            return plan, rounds
        known |= now
        rounds += 1


def bowl(bottom):
    return lambda rate, seed: 2.0 + (rate - bottom) ** 2 + 0.01 * seed


GRID = {(-9.0, 0), (-8.0, 0), (-7.0, 0)}


def test_the_first_round_is_the_first_seed_on_the_grid():
    plan = expand(swept(), {})
    assert points(plan) == GRID
    assert plan.later == 6, "two more seeds at the best rate and both of its neighbours"


def test_nothing_follows_before_all_of_a_round_is_known():
    known = losses(expand(swept(), {}), bowl(-8))
    known.popitem()
    assert points(expand(swept(), known)) == GRID


@pytest.mark.parametrize(
    ("refine", "rates"), [("neighbours", (-9.0, -8.0, -7.0)), ("best", (-8.0,)), ("all", (-9.0, -8.0, -7.0))]
)
def test_other_seeds_go_where_refine_says(refine, rates):
    plan, _ = settled(swept(refine=refine), bowl(-8))
    assert points(plan) == GRID | {(rate, seed) for rate in rates for seed in (1, 2)}
    assert plan.later == 0


def test_all_seeds_at_all_rates_need_no_losses():
    assert len(expand(swept(refine="all"), {}).runs) == 9


@pytest.mark.parametrize(("bottom", "beyond", "chosen"), [(-12, -10, (-10, -9)), (-3, -6, (-7, -6))])
def test_the_grid_grows_at_the_edge_at_which_the_best_lies(bottom, beyond, chosen):
    plan, rounds = settled(swept(), bowl(bottom))
    assert points(plan) == GRID | {(beyond, 0)} | {(rate, seed) for rate in chosen for seed in (1, 2)}
    assert rounds == 3


def test_the_grid_does_not_grow_where_the_best_lies_inside_or_extension_is_off():
    assert len(settled(swept(), bowl(-8))[0].runs) == 3 + 6
    assert {rate for rate, _ in points(settled(swept(extend=0), bowl(-3))[0])} == {-9, -8, -7}


def test_the_grid_grows_by_as_many_rates_as_are_allowed_and_in_its_own_steps():
    plan, _ = settled(swept(extend=3, log2_lrs=[-9, -8.5]), bowl(0))
    assert sorted({rate for rate, _ in points(plan)}) == [-9, -8.5, -8, -7.5, -7]


def test_a_diverged_run_counts_as_infinitely_bad():
    plan, _ = settled(swept(), lambda rate, seed: math.inf if rate > -8.5 else 3.0)
    assert (-10, 0) in points(plan)
    everything, _ = settled(swept(), lambda rate, seed: math.inf)
    assert everything.later == 0, "a plan ends even if every run diverges"


def test_a_plan_depends_on_its_losses_only():
    known = losses(expand(swept(), {}), bowl(-7))
    reordered = dict(sorted(known.items(), reverse=True)) | {"a-run-of-another-preset": 0.0}
    first, again = expand(swept(), known), expand(swept(), reordered)
    assert [spec.run_id for spec in first.runs] == [spec.run_id for spec in again.runs]


def two_tables(**changes):
    arms = [{"name": "SP", "arch": "gdn", "table": "sp"}, {"name": "muP", "arch": "gdn", "table": "mup_gdn"}]
    return sweep(arms=arms, widths=[16, 32], **changes)


def test_the_base_width_is_trained_once_for_all_tables():
    plan = expand(preset(two_tables()), {})
    assert [(spec.arm, spec.model.width) for spec in plan.runs] == [("SP", 16), ("SP", 32), ("muP", 32)]


def test_the_base_width_is_not_shared_between_different_models():
    experiment = two_tables()
    experiment["arms"][1]["model"] = {"options": {"gdn": {"conv_size": 2}}}
    assert len(expand(preset(experiment), {}).runs) == 4


def test_a_learning_rate_grid_by_width_and_an_arms_own_seeds():
    arm = {"name": "T", "arch": "transformer", "log2_lrs": {16: [-5], 32: [-7, -6]}, "seeds": [3]}
    plan = expand(preset(sweep(arms=[arm], widths=[16, 32], refine="all")), {})
    assert {(s.model.width, math.log2(s.optimizer.lr), s.seed) for s in plan.runs} == {
        (16, -5.0, 3),
        (32, -7.0, 3),
        (32, -6.0, 3),
    }


def test_coordinate_checks_and_generation_are_planned_at_once():
    arms = [{"name": "G", "arch": "gdn"}, {"name": "T", "arch": "transformer"}]
    check = {"name": "c", "kind": "coord_check", "widths": [16, 32], "seeds": [0, 1], "arms": arms}
    decode = {"name": "d", "kind": "decode", "widths": [16], "contexts": [8, 16, 32], "arms": arms}
    plan = expand(preset(check, decode), {})
    kinds = [spec.kind for spec in plan.runs]
    assert kinds.count("coord_check") == 2 * 2 * 2
    assert kinds.count("decode") == 2 * 3
    assert plan.later == 0


def test_settings_of_an_experiment_and_an_arm_lie_over_those_of_the_preset():
    arm = {"name": "T", "arch": "transformer", "model": {"options": {"transformer": {"heads": 4}}}}
    plan = expand(preset(sweep(arms=[arm], training={"steps": 3}, model={"depth": 2})), {})
    spec = plan.runs[0]
    assert (spec.training.steps, spec.training.seq_len, spec.model.depth) == (3, 16, 2)
    assert spec.model.options == {"transformer": {"heads": 4}}, "options of other mixers are no part of its identity"


def test_equal_seeds_of_all_arms_have_equal_data():
    arms = [{"name": "G", "arch": "gdn"}, {"name": "T", "arch": "transformer"}]
    specs = expand(preset(sweep(arms=arms, kind="comparison", match={"by": "tokens", "reference": "T"})), {}).runs
    fields = {
        canonical_json([s.data, s.seed, s.training.batch_size, s.training.seq_len, s.training.steps]) for s in specs
    }
    assert len(specs) == 2
    assert len(fields) == 1
