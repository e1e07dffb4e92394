"""Statistics recover what was planted, and refuse what they cannot know."""

import math
import random

import pytest

from gdnbench.report.statistics import (
    fit_optimum,
    fit_seed_optima,
    log_width_slopes,
    mean_curve,
    paired_difference,
    position,
    t_interval,
    transfer_regrets,
)
from gdnbench.report.statistics.regret import interpolate

GRID = [-10 + 0.5 * step for step in range(13)]


def parabola(optimum: float, grid=GRID, curvature: float = 0.02, level: float = 2.0) -> dict[float, float]:
    return {x: level + curvature * (x - optimum) ** 2 for x in grid}


def noisy_sweep(rng: random.Random, drift: float, seeds: int = 3, noise: float = 0.003):
    """Return width -> seed -> curve; seed 0 has the grid, the others the best ± 1, as a plan runs them."""
    sweep = {}
    for width in (64, 128, 256, 512):
        curves = {}
        for seed in range(seeds):
            own = -7 + drift * math.log2(width / 64) + rng.gauss(0, 0.15)
            curves[seed] = {x: y + rng.gauss(0, noise) for x, y in parabola(own).items()}
        best = min(curves[0], key=curves[0].get)
        near = {s: c if s == 0 else {x: y for x, y in c.items() if abs(x - best) <= 0.5} for s, c in curves.items()}
        sweep[width] = near
    return sweep


def drift_interval(sweep):
    optima = {w: {s: o.x for s, o in fit_seed_optima(c).items() if o.x is not None} for w, c in sweep.items()}
    return t_interval(log_width_slopes(optima).values())


def test_t_interval_matches_the_textbook():
    interval = t_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2 and interval.n == 3
    assert interval.half_width == pytest.approx(2.484, abs=1e-3)  # 4.303 / sqrt(3) standard deviations


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0], [1.0, 2.0, math.inf]])
def test_fewer_than_three_seeds_have_no_interval(values):
    interval = t_interval(values)
    assert interval.half_width is None and position(interval, -9, 9) == "pending"


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ([0.01, 0.0, -0.01], "inside"),
        ([-0.5, -0.51, -0.49], "below"),
        ([0.5, 0.51, 0.49], "above"),
        ([0.0, 0.3, -0.3], "undecided"),
    ],
)
def test_equivalence(values, place):
    assert position(t_interval(values), -0.15, 0.15) == place


def test_optimum_of_a_parabola_is_exact():
    optimum = fit_optimum(parabola(-6.8))
    assert optimum.x == pytest.approx(-6.8) and optimum.loss == pytest.approx(2.0) and not optimum.flags
    half = math.sqrt(0.01 / 0.02)
    assert optimum.tolerance == pytest.approx((-6.8 - half, -6.8 + half))


@pytest.mark.parametrize("planted", [-11.0, -3.0])
def test_optimum_outside_the_grid_is_censored_never_clipped(planted):
    optimum = fit_optimum(parabola(planted))
    assert optimum.x is None and optimum.tolerance is None and set(optimum.flags) == {"edge", "censored"}


def test_a_best_rate_at_the_edge_is_no_optimum_unless_what_lies_beyond_diverged():
    curve = {-9.0: 4.65, -8.0: 4.41, -7.0: 4.36}
    assert fit_optimum(curve).x is None and fit_optimum(curve, {-10.0}).flags == ("edge", "censored")
    assert fit_optimum(curve, {-6.5}).x == pytest.approx(-7.24, abs=0.01)
    assert [o.x for o in fit_seed_optima({0: curve, 1: curve}).values()] == [None, None]


def test_a_curve_that_bends_downwards_is_censored():
    assert "censored" in fit_optimum({-8.0: 2.0, -7.0: 2.5, -6.0: 2.6}).flags


def test_two_points_are_too_few():
    assert fit_optimum({-8.0: 2.0, -7.0: 2.1}).flags == ("edge", "few points")
    assert fit_optimum({}).flags == ("no runs",)


def test_seeds_with_three_points_get_their_own_optimum():
    curves = {0: parabola(-7.0), 1: parabola(-6.7, [-7.5, -7, -6.5]), 2: parabola(-7.4, [-7.5, -7, -6.5])}
    optima = fit_seed_optima(curves)
    assert [optima[seed].x for seed in range(3)] == pytest.approx([-7.0, -6.7, -7.4])


def test_a_seed_with_two_points_borrows_the_curvature():
    optima = fit_seed_optima({0: parabola(-7.0), 1: parabola(-6.8, [-7, -6.5])})
    assert optima[1].x == pytest.approx(-6.8)
    assert fit_seed_optima({0: parabola(-7.0, [-7, -6.5]), 1: parabola(-6.8, [-7, -6.5])})[0].flags == ("few points",)


def test_mean_curve_corrects_for_seeds_that_ran_some_rates():
    curves = {0: parabola(-7, level=2.0), 1: parabola(-7, [-7.5, -7, -6.5], level=2.6)}
    mean = mean_curve(curves)
    expected = parabola(-7, level=2.3)
    assert mean == pytest.approx(expected)


@pytest.mark.parametrize("drift", [0.0, -0.5])
def test_planted_drift_is_covered_as_often_as_stated(drift):
    rng = random.Random(3)
    intervals = [drift_interval(noisy_sweep(rng, drift)) for _ in range(120)]
    covered = sum(interval.low <= drift <= interval.high for interval in intervals)
    assert 0.89 <= covered / len(intervals) <= 0.99
    assert sum(i.mean for i in intervals) / len(intervals) == pytest.approx(drift, abs=0.02)


def test_slopes_leave_out_seeds_with_few_widths():
    values = {64: {0: 1.0, 1: 1.0}, 128: {0: 2.0}, 256: {0: 3.0, 1: 9.0}}
    assert log_width_slopes(values) == pytest.approx({0: 1.0})


def test_regret_is_zero_with_the_same_optimum():
    base = {seed: parabola(-7) for seed in range(3)}
    regrets = transfer_regrets(base, {seed: parabola(-7, level=1.5) for seed in range(3)})
    assert [regret.nats for regret in regrets.values()] == pytest.approx([0, 0, 0], abs=1e-12)
    assert not any(regret.at_least for regret in regrets.values())


def test_regret_of_a_planted_shift():
    base = {seed: parabola(-6) for seed in range(3)}
    regrets = transfer_regrets(base, {seed: parabola(-8) for seed in range(3)})
    assert [regret.nats for regret in regrets.values()] == pytest.approx([0.08] * 3)


def test_regret_is_unbiased_by_the_choice_of_rate():
    """Choosing and reading from the same seeds would give a mean above zero by twice the noise's share."""
    rng = random.Random(5)
    means = []
    for _ in range(60):
        sweep = {d: {s: {x: y + rng.gauss(0, 0.01) for x, y in parabola(-7).items()} for s in range(3)} for d in "ab"}
        regrets = transfer_regrets(sweep["a"], sweep["b"])
        means.append(sum(regret.nats for regret in regrets.values()) / 3)
    assert sum(means) / len(means) == pytest.approx(0, abs=0.002)


def test_regret_beyond_a_seeds_runs_is_a_lower_limit():
    base = {seed: parabola(-5) for seed in range(3)}
    largest = {0: parabola(-8), 1: parabola(-8, [-8.5, -8, -7.5]), 2: parabola(-8, [-8.5, -8, -7.5])}
    regrets = transfer_regrets(base, largest)
    assert not regrets[0].at_least and regrets[0].nats == pytest.approx(0.02 * 9)
    assert regrets[1].at_least and regrets[1].nats < 0.02 * 9


def test_a_diverged_run_at_the_transferred_rate_is_marked():
    base = {seed: parabola(-5) for seed in range(3)}
    largest = {seed: parabola(-8, [-9, -8.5, -8, -7.5, -7]) for seed in range(3)}
    regrets = transfer_regrets(base, largest, {0: {-5.0}})
    assert regrets[0].diverged and not regrets[1].diverged


def test_paired_difference_uses_common_seeds_only():
    interval = paired_difference({0: 1.0, 1: 2.0, 2: 3.0, 9: 100.0}, {0: 0.5, 1: 1.5, 2: 2.5})
    assert interval.mean == pytest.approx(0.5) and interval.n == 3


def test_interpolation_is_exact_on_a_parabola_and_stays_inside_the_runs():
    curve = parabola(-7, [-8, -7.5, -7, -6.5])
    assert interpolate(curve, -7.2) == pytest.approx(2.0 + 0.02 * 0.04)
    assert interpolate(curve, 0.0) == curve[-6.5]
