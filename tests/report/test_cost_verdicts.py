"""Verdicts on what tuning and the gating normalization cost, and the distance of a budget from a claim's."""

import pytest

from gdnbench.report.study import read_study
from gdnbench.report.verdicts import judge
from gdnbench.results import Record, Store
from tests.report import evidence

TUNING = {
    "claim": "A3.5", "test": "tuning_cost", "experiment": "comparison", "arm": "GDN+μP", "base": "transfer-gdn",
}  # fmt: skip


def verdict(built, given):
    evidence.preset(built, [given])
    return next(v for v in judge(read_study(built.store)) if v.claim == given["claim"])


def study(tmp_path, best):
    """A comparison whose best rate is ``best`` (the preset names 2^-6 as transferred) and a sweep at width 64."""
    built = evidence.builder(tmp_path)
    for rate in (-8.0, -7.0, -6.0):
        for seed in (0, 1, 2):
            loss = 3.0 + 0.05 * (rate - best) ** 2 + built.random.gauss(0, 0.001)
            built.train("comparison", "GDN+μP", 512, seed, rate, loss, steps=1500)
    built.sweep("transfer-gdn", "GDN (SP)", 0.0, first=True, widths=(64, 128))
    return built


@pytest.mark.parametrize(
    ("best", "ruling", "said"),
    [
        (-6.0, "reproduced", "is best at the transferred rate, 2^−6"),
        (-7.0, "not reproduced", "loses more than 0.01 nat by the transferred rate"),
        (-6.499, "reproduced", "rate"),
    ],
)
def test_tuning_cost(tmp_path, best, ruling, said):
    found = verdict(study(tmp_path, best), TUNING)
    assert found.verdict == ruling and said in found.reason
    # 13 runs at width 64 of 100 steps, 3 at width 512 of 1,500: 13 / (3 * 15 * 64) of the FLOPs.
    assert f"saved {100 * (1 - 13 / (3 * 15 * 64)):.1f}% of the search's FLOPs" in found.measured
    assert "search at width 512: 3 runs, 4.61M tokens" in found.measured


def test_a_small_saving_is_none(tmp_path):
    found = verdict(study(tmp_path, -6.0), {**TUNING, "bounds": {"saving": 0.999}})
    assert found.verdict == "not reproduced" and "saves less than 99.9%" in found.reason


def test_a_search_that_is_not_there_leaves_it_pending(tmp_path):
    built = evidence.builder(tmp_path)
    built.train("comparison", "GDN+μP", 512, 0, -6.0, 3.0)
    found = verdict(built, TUNING)
    assert "has no search in transfer-gdn to count" in found.reason
    assert found.budget.startswith("1 run,"), "of the search and final, but one run"
    assert "no experiment 'elsewhere'" in verdict(built, {**TUNING, "base": "elsewhere"}).reason


def timings(root, extra):
    """Store timings of calls with and without the gating normalization in a set of their own."""
    store = Store(root, "kernels")
    for shape in range(4):
        for variant, factor in (("raw gates", 1.0), ("raw gates, gate_scale=0.7", 1 + extra + 0.001 * (shape - 1.5))):
            spec = {
                "op": "gated_delta", "impl": "triton", "direction": "forward", "timing": "device", "variant": variant,
                "B": 8 + shape, "T": 1024, "H": 4, "K": 64, "V": 64, "dtype": "bfloat16", "gates": "default",
                "qk_norm": "given", "seed": 0, "device": "cuda",
            }  # fmt: skip
            run_id = f"k{shape}-{len(variant)}"
            path = store.rows_path(run_id)
            path.parent.mkdir(parents=True)
            path.write_text("")
            metrics = {"ms": {"value": (1.0 + shape) * factor, "unit": "ms"}}
            store.write(
                Record(
                    run_id=run_id, set="kernels", kind="kernel", outcome="finished", spec=spec, metrics=metrics,
                    rows_sha256="", source_digest="d", data={}, environment={"device": "NVIDIA H200"},
                    started="2026-06-20T10:00:00Z", duration_s=1.0,
                )
            )  # fmt: skip


@pytest.mark.parametrize(
    ("extra", "ruling", "said"),
    [
        (0.03, "reproduced", "takes 2 to 4% longer"),
        (0.0, "not reproduced", "takes less than 2% longer"),
        (0.08, "not reproduced", "takes more than 4% longer"),
        (0.04, "undecided", "crosses 2 to 4%"),
    ],
)
def test_gating_cost(tmp_path, extra, ruling, said):
    timings(tmp_path, extra)
    found = verdict(evidence.builder(tmp_path), {"claim": "A3.4", "test": "gating_cost", "set": "kernels"})
    assert found.verdict == ruling and said in found.reason
    assert f"{100 * extra:.2f}% more device time" in found.measured and "n = 4 shapes on NVIDIA H200" in found.measured


def test_timings_that_are_not_there_leave_it_pending(tmp_path):
    found = verdict(evidence.builder(tmp_path), {"claim": "A3.4", "test": "gating_cost", "set": "kernels"})
    assert found.verdict == "pending" and "no set 'kernels' beside this one" in found.reason


def test_the_distance_is_from_the_records(tmp_path):
    built = evidence.builder(tmp_path)
    built.sweep("transfer-gdn", "GDN (SP)", -0.7, first=True, widths=(64, 128, 256))
    built.sweep("transfer-gdn", "GDN+μP", 0.0, first=False, widths=(64, 128, 256))
    given = {"claim": "B1", "test": "lr_transfer", "experiment": "transfer-gdn", "arm": "GDN+μP", "distance": "one GPU"}
    found = verdict(built, given)
    assert found.distance == "1/96,000 of the claim's 9.83B training tokens a run; widths up to 256 of 1,536; one GPU"
    claim = {**given, "claim": "A1.3", "test": "measured", "verdict": "not testable here", "reason": "r"}
    assert "of the claim's 125M parameters" in verdict(built, claim).distance
