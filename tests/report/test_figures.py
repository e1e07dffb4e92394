"""What readers of a figure stumble over: ticks on top of one another, broken words, rows that run together."""

import itertools

import pytest

from gdnbench.report import activations
from gdnbench.report.figures import coordinates, drift
from gdnbench.report.figures.style import new_figure
from gdnbench.report.statistics import Interval
from gdnbench.report.study import read_study

LONG = "GDN+μP, gating normalization off"


@pytest.fixture(scope="module")
def checks(synthetic, tmp_path_factory):
    """Return the coordinate checks of four arms, one of them with sizes over many decades."""
    builder = synthetic.Builder(tmp_path_factory.mktemp("coordinates"))
    arms = {"GDN (SP)": 2.2, "GDN+μP": 0.0, "GDN+μP (derived)": -0.05, LONG: 0.1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(synthetic.ARMS, LONG, ("gdn", "mup_gdn"))
        for arm, slope in arms.items():
            builder.coordinates(arm, slope, widths=(64, 128, 256))
    study = read_study(builder.store)
    return [activations.analyse(study.arm("coordinates", arm), study) for arm in arms]


@pytest.mark.parametrize(("limits", "ticks"), [((0.02, 1.9), [0.02, 0.05, 0.1, 0.2, 0.5, 1]),
                                               ((0.02, 9e4), [0.1, 1, 10, 100, 1000, 10000])])  # fmt: skip
def test_sizes_over_many_decades_have_a_tick_a_decade(limits, ticks):
    _, (axis,) = new_figure(height=3)
    axis.set_yscale("log", base=10)
    axis.set_ylim(*limits)
    coordinates._size_ticks(axis)
    shown = [tick for tick in axis.get_yticks() if limits[0] <= tick <= limits[1]]
    assert shown == pytest.approx(ticks)
    assert axis.yaxis.get_major_formatter()(10_000.0) == "10,000"


def test_titles_of_columns_break_between_words(checks):
    titles = [axis.get_title("left") for axis in coordinates.size_lines(checks).axes[:4]]
    assert [" ".join(title.split()) for title in titles] == [check.runs.arm for check in checks]


def test_marks_of_a_site_stay_in_its_row(checks):
    figure = coordinates.slope_dots(checks)
    lines = [line for line in figure.axes[0].get_lines() if line.get_marker() not in ("None", "")]
    heights = {float(y) for line in lines for y in line.get_ydata()}
    rows = [round(height) for height in heights]
    assert max(abs(height - row) for height, row in zip(heights, rows)) < 0.45
    bounds = [
        (min(h for h in heights if round(h) == row), max(h for h in heights if round(h) == row)) for row in {*rows}
    ]
    assert all(below[1] + 0.1 < above[0] for below, above in itertools.pairwise(sorted(bounds)))


def test_a_mean_without_an_interval_is_pale():
    _, (axis,) = new_figure(height=3)
    drift.mark_interval(axis, Interval(mean=0.1, low=0.0, high=0.2, n=3), 0, "#000000")
    drift.mark_interval(axis, Interval(mean=0.1, low=None, high=None, n=2), 1, "#000000")
    sure, unsure = (line.get_alpha() for line in axis.get_lines() if line.get_marker() == "o")
    assert sure == 1 and unsure < 0.5
