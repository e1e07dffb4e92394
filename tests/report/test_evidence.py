"""The parts of the report that weigh evidence: each outcome that was planted is what tables and sentences say."""

import csv
import dataclasses
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest

from gdnbench.report import activations, render
from gdnbench.report.activations import CoordinateCheck, SiteSlope
from gdnbench.report.analysis import analyse
from gdnbench.report.sections.horizons import horizon_sentences
from gdnbench.report.sections.texts import document_sentences, overlap_notices
from gdnbench.report.sections.why import why_sentences
from gdnbench.report.statistics import Interval
from gdnbench.report.statistics.bootstrap import document_interval, seed_interval
from gdnbench.report.statistics.scaling import extrapolation_errors, line_residual, loss_limit, loss_limits
from gdnbench.report.study import read_study
from gdnbench.report.transfer import Transfer
from tests.report import evidence

SEEDS, WIDTHS = (0, 1, 2), (64, 128, 256)


def read_csv(report, name):
    with (report / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def sweeps(tmp_path, drifts, *, seeds=SEEDS):
    """Return the study of a sweep of GDN with these drifts by arm."""
    built = evidence.builder(tmp_path)
    for place, (arm, drift) in enumerate(drifts.items()):
        built.sweep("transfer-gdn", arm, drift, first=place == 0, seeds=seeds, widths=WIDTHS, centre=-6.0)
    evidence.preset(built, [])
    return read_study(built.store)


def whys(tmp_path, sp, fanin, emb, mup, **options):
    drifts = dict(zip(("GDN (SP)", "GDN (SP, fan-in)", "GDN (SP, embedding rate)", "GDN+μP"), (sp, fanin, emb, mup)))
    study = sweeps(tmp_path, drifts, **options)
    ((_, fitted), *_) = analyse(study).sweeps
    return why_sentences(fitted)


@pytest.mark.parametrize(
    ("drifts", "said"),
    [
        ((-0.8, -0.8, -0.6, 0.0), ["is not enough: GDN (SP, fan-in) drifts, too", "(SP, embedding rate) drifts, too",
                                   "Neither part alone is enough, and GDN+μP keeps the rate"]),
        ((-0.8, -0.8, 0.0, 0.0), ["fan-in (one rate for all weights) is not enough",
                                  "in proportion to width (all else standard) is enough: GDN (SP, embedding rate)"]),
        ((-0.8, 0.0, -0.8, -0.8), ["fan-in (one rate for all weights) is enough: GDN (SP, fan-in) keeps its rate"]),
        ((0.0, 0.0, 0.0, 0.0), ["GDN (SP) keeps its rate by itself"]),
        ((-0.15, 0.0, 0.0, 0.0), ["cannot be told here: the drift of GDN (SP) is undecided"]),
    ],
)  # fmt: skip
def test_what_makes_a_rate_transfer(tmp_path, drifts, said):
    found = whys(tmp_path, *drifts)
    assert all(any(part in sentence for sentence in found) for part in said), found


def test_without_seeds_it_is_pending(tmp_path):
    (found,) = whys(tmp_path, -0.8, -0.8, 0.0, 0.0, seeds=(0, 1))
    assert "the drift of GDN (SP) is pending" in found


DECAY = {"decay_mode": "independent"}


def arm(name, table, switches=None):
    return SimpleNamespace(arm=name, arch="gdn", table=table, switches=switches or {})


def drifting(mup, decay, derived, *, n=5):
    """Return the arms of a sweep with these drifts; those without the suspects have ``n`` seeds."""

    def fitted(runs, drift, seeds):
        reach = (0.1, 0.1) if seeds >= 3 else None
        low, high = (None, None) if reach is None else (drift - reach[0], drift + reach[1])
        return Transfer(runs=runs, curves={}, drift=Interval(mean=drift, low=low, high=high, n=seeds))

    return [
        fitted(arm("GDN+μP", "mup_gdn"), mup, 5),
        fitted(arm("GDN+μP, decay λ·m", "mup_gdn", DECAY), decay, n),
        fitted(arm("GDN+μP (derived)", "mup_derived"), derived, n),
    ]


def checked(*slopes):
    """Return the coordinate check of μP with updates of these slopes, and one size at the start that grows."""

    def entry(site, steps, slope):
        interval = Interval(mean=slope, low=slope - 0.05, high=slope + 0.05, n=5)
        return SiteSlope(site=f"blocks.1.mixer.{site}", after_steps=steps, sizes={}, slope=interval)

    grown = entry("alpha", 0, 0.9)
    found = [entry(f"{name}_proj", 32, slope) for name, slope in zip("qkv", slopes)]
    return CoordinateCheck(runs=arm("GDN+μP", "mup_gdn"), slopes=(grown, *found))


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        (drifting(-0.5, 0.0, -0.5), ["What makes GDN+μP drift is weight decay coupled",
                                     "is kept without: “GDN+μP, decay λ·m”, drift 0.000",
                                     "What makes GDN+μP drift is not, or not only, a rule of convolution"]),
        (drifting(-0.5, -0.15, 0.0), ["Whether weight decay coupled to a rate that falls with width makes GDN+μP drift "
                                      "is undecided", "What makes GDN+μP drift is a rule of convolution"]),
        (drifting(-0.5, 0.0, 0.0, n=1), ["Whether weight decay coupled", "drift is pending: “GDN+μP, decay λ·m”",
                                         "drift is pending: GDN+μP (derived), drift 0.000 octaves per doubling of "
                                         "width, n = 1, too few"]),
    ],
)  # fmt: skip
def test_what_makes_mup_drift(arms, said):
    found = why_sentences(arms)
    assert len(found) >= 2 and all(any(part in sentence for sentence in found) for part in said), found
    assert not why_sentences(drifting(0.0, 0.0, 0.0)), "it keeps its rate: nothing to explain"


def test_the_coordinate_check_is_read_in_the_direction_of_the_drift():
    mup, *_ = drifting(-0.5, 0.0, 0.0)
    (said,) = why_sentences([mup], [checked(0.0, -0.6, -0.6)])
    assert "Of 3 judged updates of activations of GDN+μP, none grow with width" in said
    assert "would ask for lower rates, and 2 (k and v) shrink" in said and "does not explain the drift" in said
    (said,) = why_sentences([mup], [checked(0.4, -0.6, 0.0)])
    assert "1 (q) grow with width" in said and "may explain the drift" in said
    mup, *_ = drifting(0.5, 0.0, 0.0)
    (said,) = why_sentences([mup], [checked(0.4, -0.6, -0.6)])
    assert "2 (k and v) shrink with width" in said and "ask for higher rates, and 1 (q) grow" in said


def test_an_activation_that_two_modules_put_out_is_judged_once():
    sizes = {64: {0: 1.0}, 128: {0: 1.5}}
    found = {("blocks.0.mixer", 4): sizes, ("blocks.0.mixer.q_proj", 4): {64: {0: 2.0}, 128: {0: 2.0}}}
    whole = SiteSlope(site="blocks.0.mixer", after_steps=4, sizes=sizes, slope=None)
    assert not activations._judged_once(whole, found, "gdn").exempt
    found["blocks.0.mixer.o_proj", 4] = {width: dict(by_seed) for width, by_seed in sizes.items()}
    assert activations._judged_once(whole, found, "gdn").exempt == "the same as mixer output"
    part = SiteSlope(site="blocks.0.mixer.o_proj", after_steps=4, sizes=sizes, slope=None)
    assert not activations._judged_once(part, found, "gdn").exempt


def test_horizons_are_of_branches_and_planted_slopes_are_found(tmp_path):
    built = evidence.builder(tmp_path)
    evidence.horizon(built, "GDN+μP", 0.0, -0.3, seeds=SEEDS)
    evidence.horizon(built, "GDN (SP)", -0.4, 0.0, seeds=SEEDS)
    evidence.preset(built, [])
    study = read_study(built.store)
    ((_, arms),) = analyse(study).horizons
    by_arm = {arm.runs.arm: arm for arm in arms}
    mup, sp = by_arm["GDN+μP"], by_arm["GDN (SP)"]
    assert not any(study.is_start(record) for arm in arms for record in arm.runs.records)
    assert list(mup.by_tokens) == [102_400, 409_600, 819_200]
    assert mup.slopes[64].mean == pytest.approx(-0.3, abs=0.03) and sp.slopes[64].mean == pytest.approx(0, abs=0.03)
    assert [fitted.drift.mean for fitted in sp.by_tokens.values()] == pytest.approx([-0.4] * 3, abs=0.03)
    assert "GDN+μP, width 64: the best rate falls with the length" in " ".join(horizon_sentences(mup))
    said = " ".join(horizon_sentences(sp))
    assert "is not shown to move" in said and "drift over width is the same at every length" in said


def test_fine_tuning_is_set_beside_training(tmp_path):
    built = evidence.builder(tmp_path)
    built.sweep("transfer-gdn", "GDN+μP", 0.0, first=True, seeds=SEEDS, widths=WIDTHS, centre=-6.1)
    evidence.fine_tune(built, "GDN+μP", 0.0, seeds=SEEDS)
    evidence.preset(built, [{"claim": "A3.6", "test": "lr_transfer", "experiment": "fine-tune", "arm": "GDN+μP"}])
    render(built.store, tmp_path / "out", command="x")
    rows = read_csv(tmp_path / "out", "fine_tune")
    assert [row["width"] for row in rows] == ["64", "128", "256"]
    assert all(float(row["second minus first (octaves)"]) == pytest.approx(-3.0, abs=0.1) for row in rows)
    (verdict,) = (row for row in read_csv(tmp_path / "out", "verdicts") if row["id"] == "A3.6")
    assert verdict["verdict"] == "reproduced"


def compared(tmp_path, shifts):
    built = evidence.builder(tmp_path)
    evidence.comparison(built, shifts)
    evidence.preset(built, [])
    study = read_study(built.store)
    ((experiment, choices),) = analyse(study).comparisons
    return study, experiment, choices


def test_documents_show_the_planted_difference_and_who_leads(tmp_path):
    from gdnbench.report.documents import differences

    study, experiment, choices = compared(tmp_path, {"Transformer+μP": 0.0, "GDN+μP": -0.004, "Mamba-2": 0.02})
    found = {(d.place.name, d.choice.runs.arm): d for d in differences(experiment, choices, study)}
    names = ["stdlib test", "stdlib test without repeated documents", "wikitext-103 test (out of domain)"]
    assert list(dict.fromkeys(name for name, _ in found)) == names
    assert [found[name, "GDN+μP"].documents for name in names] == [6, 5, 60]
    for name, shift in zip(names, (0.02, 0.02, 0.04)):
        entry = found[name, "Mamba-2"]
        for interval in (entry.by_document, entry.by_seed):
            assert interval.low < shift < interval.high and interval.mean == pytest.approx(shift, abs=0.002)
        assert found[name, "Transformer+μP"].by_document is None
    said = document_sentences(list(found.values()), "Transformer+μP")
    assert said[2] == (
        "On wikitext-103 test (out of domain): GDN+μP codes it in fewer bits than Transformer+μP; "
        "Mamba-2 needs more bits than Transformer+μP."
    )


def test_a_difference_is_marked_where_seeds_agree_and_not_by_documents_alone(tmp_path):
    from gdnbench.report.documents import differences
    from gdnbench.report.tables.documents import documents_table

    study, experiment, choices = compared(tmp_path, {"Transformer+μP": 0.0, "Mamba-2": -0.02})
    one_seed = [dataclasses.replace(choice, chosen=choice.chosen[:1]) for choice in choices]
    for arms, tone in ((choices, "good"), (one_seed, "")):
        found = differences(experiment, arms, study)
        cells = documents_table(experiment, found, "Transformer+μP").rows[-1].cells[-2:]
        assert cells[0].interval.high < 0, "over documents it is below zero in both"
        assert [cell.tone for cell in cells] == [tone, tone]


def test_an_arm_is_hollow_beside_the_reference_that_is_not_drawn(tmp_path):
    from gdnbench.report.documents import differences
    from gdnbench.report.figures.documents import difference_dots

    study, experiment, choices = compared(tmp_path, {"Transformer+μP": 0.0, "Transformer (SP)": 0.02})
    axes = difference_dots(differences(experiment, choices, study), "Transformer+μP").axes
    marks = [line for axis in axes for line in axis.get_lines() if line.get_marker() == "o"]
    assert len(marks) == 6, "one arm over documents and over seeds, on each text"
    assert {line.get_markerfacecolor() for line in marks} == {"white"}


def test_equal_arms_are_not_told_apart(tmp_path):
    from gdnbench.report.documents import differences

    study, experiment, choices = compared(tmp_path, {"Transformer+μP": 0.0, "GDN (SP)": 0.0, "GDN+μP": 0.0})
    said = document_sentences(differences(experiment, choices, study), "Transformer+μP")
    assert said[2].endswith("GDN (SP) and GDN+μP are not shown to differ from Transformer+μP.")


def test_text_that_is_repeated_in_training_is_told(tmp_path):
    study, _, choices = compared(tmp_path, {"Transformer+μP": 0.0})
    (notice,) = overlap_notices(choices[0].chosen, study)
    assert notice.startswith(
        "1 of 6 documents of stdlib test (35% of its bytes) is repeated in the train split of stdlib"
    )
    assert "up to 85% of a document's 13-grams" in notice


def test_the_cost_of_a_comparison_is_counted(tmp_path):
    built = evidence.builder(tmp_path)
    evidence.comparison(built, {"Transformer+μP": 0.0, "GDN+μP": 0.01})
    evidence.preset(built, [])
    render(built.store, tmp_path / "out", command="x")
    rows = {row["arm"]: row for row in read_csv(tmp_path / "out", "cost_comparison")}
    gdn = rows["GDN+μP"]
    assert (gdn["rates tried"], gdn["final runs"]) == ("3", "3")
    assert float(gdn["search: tokens"]) == 3 * 1500 * 1024
    assert float(gdn["search: hours of the machine"]) == pytest.approx(3 * 3.5 / 3600)
    assert float(gdn["search, in final runs' cost of one"]) == pytest.approx(3.0)
    assert float(gdn["its loss minus the chosen one's (nat)"]) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("sizes", [(1.0,) * 6, (1.0, 2.0, 4.0, 8.0, 4.0, 2.0) * 3])
def test_intervals_over_documents_cover_as_often_as_stated(sizes):
    rng = random.Random(2)
    covered = 0
    for _ in range(200):
        interval = document_interval({0: [size * rng.gauss(0.02, 0.01) for size in sizes]}, sizes)
        covered += interval.low <= 0.02 <= interval.high
    assert 0.89 <= covered / 200 <= 0.99


def test_seeds_and_documents_are_kept_apart():
    sizes = [1.0, 2.0, 3.0, 4.0, 5.0]
    same_documents = {seed: [size * (0.1 * seed) for size in sizes] for seed in range(3)}
    assert document_interval(same_documents, sizes).half_width == pytest.approx(0, abs=1e-12)
    assert seed_interval(same_documents, sizes).half_width > 0.2
    same_seeds = {seed: [0.0, 0.0, 3.0, 0.0, 5.0] for seed in range(3)}
    assert seed_interval(same_seeds, sizes).half_width == pytest.approx(0, abs=1e-12)
    assert document_interval(same_seeds, sizes).half_width > 0.2
    assert document_interval(same_seeds, sizes) == document_interval(same_seeds, sizes)


def test_few_documents_have_no_limits():
    assert document_interval({0: [1.0] * 4}, [1.0] * 4).low is None
    assert document_interval({}, [1.0]) is None and seed_interval({0: []}, []) is None


def test_power_laws_give_back_their_limit():
    curve = {width: 2.0 + 1.5 * (width / 128) ** -0.6 for width in (128, 256, 512, 1024)}
    assert loss_limit(curve) == pytest.approx(2.0, abs=1e-6)
    assert loss_limit({width: 3 - 0.1 * math.log2(width) for width in curve}) is None, "no limit in sight"
    assert loss_limit({128: 3.0, 256: 2.5, 512: 2.3}) is None, "three widths fit any power law"
    shifted = {width: {seed: loss + 0.01 * seed for seed in range(3)} for width, loss in curve.items()}
    assert loss_limits(shifted) == pytest.approx({0: 2.0, 1: 2.01, 2: 2.02}, abs=1e-5)


def test_lines_over_width():
    line = {width: -7 - 0.5 * math.log2(width / 64) for width in (64, 128, 256)}
    assert line_residual(line) == pytest.approx(0, abs=1e-12)
    bent = {**line, 128: line[128] + 0.3}
    assert line_residual(bent) == pytest.approx(np.sqrt((0.1**2 + 0.2**2 + 0.1**2) / 3))
    assert line_residual({64: 1.0, 128: 2.0}) is None
    values = {width: {0: x, 1: x + (width == 256)} for width, x in line.items()}
    assert extrapolation_errors(values) == pytest.approx({0: 0.0, 1: 1.0})


def test_the_curvature_over_width_is_found(tmp_path):
    built = evidence.builder(tmp_path, noise=0.0)
    for width, curvature in zip((64, 128, 256, 512), (0.01, 0.02, 0.04, 0.08)):
        for seed in SEEDS:
            for rate in (-8.0, -7.5, -7.0, -6.5, -6.0):
                loss = 2 + 1.5 * (width / 64) ** -0.6 + curvature * (rate + 7) ** 2
                built.train("transfer-gdn", "GDN (SP)", width, seed, rate, loss)
    evidence.preset(built, [])
    render(built.store, tmp_path / "out", command="x")
    (row,) = (row for row in read_csv(tmp_path / "out", "lr_scaling") if row["arm"] == "GDN (SP)")
    assert float(row["κ: power of the width in the curvature"]) == pytest.approx(1.0, abs=1e-6)
    assert float(row["loss at infinite width (nat/token)"]) == pytest.approx(2.0, abs=1e-4)
    assert float(row["E: residual of the optimum about its line (octaves)"]) == pytest.approx(0, abs=1e-6)
