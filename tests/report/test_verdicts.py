"""Verdicts follow the planted effects and the rule, and say what is missing."""

import pytest

from gdnbench.errors import GdnbenchError
from gdnbench.report.study import read_study
from gdnbench.report.verdicts import judge
from gdnbench.report.verdicts.budget import budget


def card(claim: str, test: str, experiment: str, arm: str, control: str = "", **more):
    return {"claim": claim, "test": test, "experiment": experiment, "arm": arm, "control": control, **more}


def verdict(builder, given):
    """Return the verdict of one card on a builder's set."""
    builder.preset([given])
    return next(v for v in judge(read_study(builder.store)) if v.claim == given["claim"])


TRANSFER = card("B1", "lr_transfer", "transfer-gdn", "GDN+μP", "GDN (SP)")


@pytest.mark.parametrize(
    ("mup", "sp", "ruling", "said"),
    [
        (0.0, -0.7, "reproduced", "GDN+μP keeps its best rate"),
        (0.0, 0.0, "partly", "the part on GDN+μP holds, that on GDN (SP) does not"),
        (-0.6, -0.6, "not reproduced", "GDN+μP needs lower rates with width"),
        (-0.15, -0.7, "undecided", "crosses a bound"),
    ],
)
def test_lr_transfer(synthetic, tmp_path, mup, sp, ruling, said):
    builder = synthetic.Builder(tmp_path)
    builder.sweep("transfer-gdn", "GDN (SP)", sp, first=True)
    builder.sweep("transfer-gdn", "GDN+μP", mup, first=False)
    found = verdict(builder, TRANSFER)
    assert found.verdict == ruling and said in found.reason
    assert "95% interval [" in found.measured and "n = 3" in found.measured and found.runs


def test_the_base_width_is_shared_with_the_arm_that_does_not_store_it(synthetic, tmp_path):
    builder = synthetic.Builder(tmp_path)
    builder.sweep("transfer-gdn", "GDN (SP)", -0.7, first=True)
    builder.sweep("transfer-gdn", "GDN+μP", 0.0, first=False)
    builder.preset([])
    runs = read_study(builder.store).arm("transfer-gdn", "GDN+μP")
    assert runs.widths() == list(synthetic.WIDTHS)
    assert {record.spec["arm"] for record in runs.at(64)} == {"GDN (SP)"}
    assert runs.shared == {record.run_id for record in runs.at(64)}


def test_too_few_seeds_are_pending(synthetic, tmp_path):
    builder = synthetic.Builder(tmp_path)
    builder.sweep("transfer-gdn", "GDN (SP)", -0.7, first=True, seeds=(0, 1))
    builder.sweep("transfer-gdn", "GDN+μP", 0.0, first=False, seeds=(0, 1))
    found = verdict(builder, TRANSFER)
    assert found.verdict == "pending" and "2 seeds of the 3" in found.reason


def test_a_censored_optimum_gives_no_drift(synthetic, tmp_path):
    builder = synthetic.Builder(tmp_path)
    builder.sweep("transfer-gdn", "GDN (SP)", -3.0, first=True)
    builder.sweep("transfer-gdn", "GDN+μP", 0.0, first=False)
    found = verdict(builder, TRANSFER)
    assert found.verdict == "pending" and "at the edge of those that have run" in found.reason


def test_a_card_can_be_capped(synthetic, tmp_path):
    builder = synthetic.Builder(tmp_path)
    builder.sweep("transfer-gdn", "GDN (SP)", -0.7, first=True)
    builder.sweep("transfer-gdn", "GDN+μP", 0.0, first=False)
    found = verdict(builder, {**TRANSFER, "bounds": {"at_most_partly": 1}})
    assert found.verdict == "partly" and "too far from the claim's" in found.reason


@pytest.mark.parametrize(("sp", "ruling"), [(-0.9, "reproduced"), (0.0, "partly")])
def test_transfer_regret(synthetic, tmp_path, sp, ruling):
    builder = synthetic.Builder(tmp_path, noise=0.0003)
    given = card("A3.1", "transfer_regret", "transfer-gdn", "GDN+μP", "GDN (SP)")
    full_seeds = (0,)  # every seed has the whole grid, as a preset with refine: all runs it
    for seed in (0, 1, 2):
        original, synthetic_seed = builder.train, seed

        def train(experiment, arm, width, _, rate, loss, original=original, seed=synthetic_seed):
            return original(experiment, arm, width, seed, rate, loss)

        builder.train = train
        builder.sweep("transfer-gdn", "GDN (SP)", sp, first=True, seeds=full_seeds)
        builder.sweep("transfer-gdn", "GDN+μP", 0.0, first=False, seeds=full_seeds)
        builder.train = original
    found = verdict(builder, given)
    assert found.verdict == ruling, found


@pytest.mark.parametrize(
    ("mup", "sp", "ruling"), [(0.0, 0.5, "reproduced"), (0.0, 0.0, "partly"), (0.4, 0.5, "not reproduced")]
)
def test_coordinate_check(synthetic, tmp_path, mup, sp, ruling):
    builder = synthetic.Builder(tmp_path)
    builder.coordinates("GDN (SP)", sp)
    builder.coordinates("GDN+μP", mup)
    given = card("B7", "coordinate_check", "coordinates", "GDN+μP", "GDN (SP)")
    assert verdict(builder, given).verdict == ruling
    assert verdict(builder, {**given, "test": "gate_variance"}).verdict == ruling


def test_gates_and_readout(synthetic, tmp_path):
    builder = synthetic.Builder(tmp_path)
    builder.coordinates("GDN+μP", 0.3)
    assert verdict(builder, card("B7", "gate_outputs", "coordinates", "GDN+μP")).verdict == "reproduced"
    given = card("B6", "readout_scale", "coordinates", "GDN+μP", bounds={"expected": -0.5})
    assert verdict(builder, given).verdict == "reproduced"
    assert verdict(builder, {**given, "bounds": {"expected": -1.0}}).verdict == "not reproduced"


@pytest.mark.parametrize(("bound", "ruling"), [(0.0, "reproduced"), (-0.06, "undecided"), (-0.3, "not reproduced")])
def test_loss_gap(synthetic, tmp_path, bound, ruling):
    builder = synthetic.Builder(tmp_path)
    builder.comparison({"GDN (SP)": 2.39, "GDN+μP": 2.33})
    given = card("A1.8", "loss_gap", "comparison", "GDN+μP", "GDN (SP)", bounds={"bound": bound})
    assert verdict(builder, given).verdict == ruling


@pytest.mark.parametrize(
    ("low", "high", "ruling"),
    [(1.0, 4.0, "reproduced"), (2.0, 3.5, "partly"), (5.0, 9.0, "not reproduced")],
)
def test_decode_ratio(synthetic, tmp_path, low, high, ruling):
    builder = synthetic.Builder(tmp_path)
    builder.decode("Transformer+μP", 400.0, grows=True)
    builder.decode("GDN+μP", 600.0, grows=False)
    given = card("A2.5", "decode_ratio", "decode", "GDN+μP", "Transformer+μP", bounds={"low": low, "high": high})
    assert verdict(builder, {**given, "min_seeds": 1}).verdict == ruling
    assert verdict(builder, given).verdict == "pending"


def test_a_measured_card_shows_values_and_keeps_its_verdict(synthetic, tmp_path):
    builder = synthetic.Builder(tmp_path)
    builder.comparison({"GDN+μP": 2.33})
    given = {"claim": "A1.3", "experiment": "comparison", "arm": "GDN+μP", "verdict": "not testable here"}
    found = verdict(builder, {**given, "reason": "needs 10B tokens"})
    assert (found.verdict, found.reason) == ("not testable here", "needs 10B tokens")
    assert "validation loss 2.3" in found.measured and "(n = 3)" in found.measured


def test_a_card_that_names_nothing_gives_way_to_one_that_measures(synthetic, tmp_path):
    builder = synthetic.Builder(tmp_path)
    builder.comparison({"GDN+μP": 2.33})
    words = {"claim": "A1.3", "verdict": "not testable here", "reason": "another preset compares that size"}
    builder.preset([words, {**words, "experiment": "comparison", "arm": "GDN+μP", "reason": "needs 10B tokens"}])
    assert [v.reason for v in judge(read_study(builder.store)) if v.claim == "A1.3"] == ["needs 10B tokens"]
    builder.preset([words])
    assert [v.reason for v in judge(read_study(builder.store)) if v.claim == "A1.3"] == [words["reason"]]


def test_a_claim_without_a_card_is_pending(synthetic, tmp_path):
    builder = synthetic.Builder(tmp_path)
    builder.preset([])
    verdicts = judge(read_study(builder.store))
    assert {v.verdict for v in verdicts} == {"pending"}
    assert {v.reason for v in verdicts} == {"no experiment of this set tests it"}


@pytest.mark.parametrize("missing", [{"experiment": "transfer-hybrid"}, {"arm": "GDN+muP"}])
def test_a_card_on_something_the_set_lacks_is_pending(synthetic, tmp_path, missing):
    found = verdict(synthetic.Builder(tmp_path), {**TRANSFER, **missing})
    assert found.verdict == "pending" and next(iter(missing.values())) in found.reason


def test_an_unknown_claim_is_refused_with_near_names(synthetic, tmp_path):
    builder = synthetic.Builder(tmp_path)
    builder.preset([{**TRANSFER, "claim": "B11"}])
    with pytest.raises(GdnbenchError, match="unknown claim 'B11'; did you mean B1"):
        judge(read_study(builder.store))


def test_a_budget_is_that_of_whole_runs_and_says_equal_numbers_once(synthetic, tmp_path):
    builder = synthetic.Builder(tmp_path)
    for seed, loss in enumerate((2.5, 2.4, None)):
        builder.train("comparison", "GDN+μP", 128, seed, -7.0, loss, steps=100 if loss else 10)
    builder.train("comparison", "GDN (SP)", 128, 0, -7.0, 2.6)
    records = read_study(builder.store).records
    text = budget(records)
    assert "4 runs, width 128, 102k training tokens a run" in text and "426k parameters" in text and " to " not in text
    gone = [record for record in records if record.outcome == "diverged"]
    assert "10.2k training tokens a run (10 steps" in budget(gone)
