"""Half octaves around the best rate, rates that transfer, lengths of training, and the order of importance."""

import math

import pytest

from gdnbench.configuration import from_mapping
from gdnbench.plan.expand import Planner, expand
from gdnbench.plan.order import importance
from gdnbench.presets import Preset
from tests.plan.test_expansion import bowl, losses, points, preset, settled, swept, two_tables
from tests.runs.tiny import study, sweep

GRID = {-9.0, -8.0, -7.0}


def halves(centre):
    return {centre + offset / 2 for offset in range(-2, 3)}


def octaves(centre):
    return {centre - 1, centre, centre + 1}


def rates(plan, seed, width=None):
    return {
        math.log2(s.optimizer.lr) for s in plan.runs if s.seed == seed and (width is None or s.model.width == width)
    }


def test_the_first_seed_fills_in_with_half_octaves_and_the_others_run_octaves():
    plan, _ = settled(swept(refine="half_octaves"), bowl(-8.1))
    assert rates(plan, 0) == GRID | halves(-8.0)
    assert rates(plan, 1) == rates(plan, 2) == octaves(-8.0)
    assert plan.later == 0


def test_the_window_follows_a_best_that_it_uncovers():
    plan, _ = settled(swept(refine="half_octaves"), bowl(-7.6))
    assert rates(plan, 1) == octaves(-7.5)
    assert halves(-7.5) <= rates(plan, 0)


def test_the_window_follows_a_few_times_only():
    """Losses that always fall towards the last point would else go on for ever."""
    plan, rounds = settled(swept(refine="half_octaves", extend=0), bowl(0))
    assert rounds < 8
    assert max(rates(plan, 0)) < -3


def test_the_grid_is_extended_before_it_is_refined():
    plan, _ = settled(swept(refine="half_octaves", extend=2), bowl(-5))
    assert {-6.0, -5.0} <= rates(plan, 0)
    assert rates(plan, 1) == octaves(-5.0)


def test_a_plan_says_about_how_much_follows():
    assert expand(swept(refine="half_octaves"), {}).later == 2 + 2 * 3


def test_all_seeds_run_the_rate_that_would_be_transferred():
    content = two_tables(log2_lrs={16: [-7, -6, -5], 32: [-9, -8, -7]}, seeds=[0, 1], transferred=True)
    chosen, known = preset({**content, "refine": "best"}), {}
    while True:
        plan = expand(chosen, known)
        # At the base width -5 is best, at the other -8.
        now = {s.run_id: bowl(-5 if s.model.width == 16 else -8)(math.log2(s.optimizer.lr), s.seed) for s in plan.runs}
        if now.keys() <= known.keys():
            break
        known |= now
    for arm in ("SP", "muP"):
        mine = [s for s in plan.runs if s.arm == arm and s.model.width == 32]
        assert {math.log2(s.optimizer.lr) for s in mine if s.seed == 1} == {-8.0, -5.0}
        assert {math.log2(s.optimizer.lr) for s in mine if s.seed == 0} == {-9.0, -8.0, -7.0, -5.0}
    points_of_arm = [(s.run_id) for s in plan.runs]
    assert len(points_of_arm) == len(set(points_of_arm))


def test_seeds_go_around_the_best_of_every_length_of_training():
    schedule = {"kind": "wsd", "warmup_steps": 2}
    experiment = sweep(
        kind="horizon", horizons=[1, 4], schedule=schedule, log2_lrs=[-9, -8, -7, -6, -5], seeds=[0, 1], refine="best"
    )
    chosen, known = preset(experiment), {}
    for _ in range(3):
        plan = expand(chosen, known)
        known |= {
            s.run_id: bowl(-6 if s.training.steps == 12 else -8)(math.log2(s.optimizer.lr), s.seed) for s in plan.runs
        }
    branches = [s for s in plan.runs if s.origin is not None and s.seed == 1]
    assert {math.log2(s.optimizer.lr) for s in branches} == {-8.0, -6.0}
    assert len(branches) == 4


ORDER = [
    {"experiment": "sweep", "widths": [16], "seeds": [0]},
    {"experiment": "other"},
    {"experiment": "sweep", "arms": ["muP"]},
]


def ordered(chosen, known=None):
    runs = expand(chosen, known or {}).runs
    return sorted(runs, key=lambda spec: importance(chosen, spec))


def test_slices_come_in_the_presets_order_and_inside_by_seed_and_width():
    content = two_tables(refine="all", seeds=[0, 1])
    other = sweep(name="other")
    chosen = preset(content, other, order=ORDER)
    found = [(s.experiment, s.arm, s.model.width, s.seed) for s in ordered(chosen)]
    assert found == [
        ("sweep", "SP", 16, 0),
        ("other", "T", 16, 0),
        ("sweep", "muP", 32, 0),
        ("sweep", "muP", 32, 1),
        ("sweep", "SP", 32, 0),
        ("sweep", "SP", 16, 1),
        ("sweep", "SP", 32, 1),
    ]


def test_without_an_order_whole_grids_come_before_second_seeds():
    found = [(s.seed, s.model.width) for s in ordered(preset(two_tables(refine="all", seeds=[0, 1])))]
    assert found == sorted(found)


def test_order_is_no_part_of_a_runs_identity():
    first, second = preset(two_tables()), preset(two_tables(), order=[{"experiment": "sweep"}])
    assert [s.run_id for s in expand(first, {}).runs] == [s.run_id for s in expand(second, {}).runs]


def test_an_arms_own_widths():
    content = two_tables()
    content["arms"][1]["widths"] = [32]
    content["widths"] = [16, 32, 64]
    found = [(s.arm, s.model.width) for s in expand(preset(content), {}).runs]
    assert found == [("SP", 16), ("SP", 32), ("SP", 64), ("muP", 32)]


def test_plans_are_made_again_quickly():
    """What a plan costs must not depend on how often it was made: it is made again after every run."""
    planner = Planner(from_mapping(Preset, study(two_tables(refine="all", seeds=list(range(20)))), "tiny"))
    first = planner.plan({})
    assert planner.plan(losses(first, bowl(-7))).runs == first.runs
    again = planner.plan({})
    assert all(one is other for one, other in zip(first.runs, again.runs, strict=True)), "runs are made once"


def test_points_are_listed_once():
    plan, _ = settled(swept(refine="half_octaves", transferred=True), bowl(-8))
    assert points(plan)


@pytest.mark.parametrize("refine", ["neighbours", "half_octaves", "best"])
def test_everything_diverging_ends_the_plan(refine):
    plan, _ = settled(swept(refine=refine), lambda rate, seed: math.inf)
    assert plan.later == 0
