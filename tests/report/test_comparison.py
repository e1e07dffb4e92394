"""A comparison's arms beside one another: only speeds that compare, and which rules of μP each arm has."""

import csv
import json

import pytest

from gdnbench.report import render
from gdnbench.report.analysis import analyse
from gdnbench.report.figures.training import metric_dots
from gdnbench.report.sections.parametrizations import rule_sentences
from gdnbench.report.sections.variants import _rows
from gdnbench.report.study import read_study

LOSSES = {"Transformer+μP": 2.4, "GDN (SP)": 2.5, "GDN+μP": 2.3}
SLOW_NORMS = {"norm": {"init": "1", "adamw": "m^-1", "sgd": "1"}, "conv": {"init": "1", "adamw": "m^-1", "sgd": "1"}}
OURS = {"norm": {"init": "1", "adamw": "1", "sgd": "m_out"}, "conv": {"init": "1", "adamw": "1", "sgd": "m^1/2"}}


@pytest.fixture(scope="module")
def builder(synthetic, tmp_path_factory):
    """Return a comparison of which one arm ran alone and three shared the machine, with the rules of its tables."""
    built = synthetic.Builder(tmp_path_factory.mktemp("comparison"))
    built.environment["workers"] = 2
    built.comparison(LOSSES)
    built.environment["workers"] = 1
    built.comparison({"RWKV-7": 2.2})
    built.preset([])
    titles = {"SP: sp": OURS, "μP (paper): mup_gdn": SLOW_NORMS, "μP (derived): mup_derived": OURS}
    columns = {"forward": "1", "decay": "0", "epsilon": "1"}
    rules = {title: {role: columns | cells for role, cells in roles.items()} for title, roles in titles.items()}
    (built.store.folder / "presets" / "quick.rules.json").write_text(json.dumps(rules), encoding="utf-8")
    return built


@pytest.fixture(scope="module")
def choices(builder):
    ((_, found),) = analyse(read_study(builder.store)).comparisons
    return {choice.runs.arm: choice for choice in found if choice.chosen}


def test_speeds_of_a_run_alone_and_of_runs_that_shared_the_machine_have_no_common_axis(choices):
    axes = metric_dots(list(choices.values()), "tokens_per_s", "training tokens/s").axes
    shown = {axis.get_title("left"): [label.get_text() for label in axis.get_yticklabels()] for axis in axes}
    assert shown == {"one run at a time": ["RWKV-7"], "2 runs at a time: lower limits": list(LOSSES)}
    assert len(metric_dots(list(choices.values()), "val_loss", "validation loss").axes) == 1


def test_a_ratio_of_such_speeds_is_not_formed(choices):
    rows = {beside: _rows(choices["GDN+μP"], choices[beside]) for beside in ("RWKV-7", "Transformer+μP")}
    speeds = {beside: row.cells[2].text for beside in rows for row in rows[beside] if "tokens/s" in row.cells[1].text}
    assert speeds["RWKV-7"] == "no ratio: 2 runs at a time beside one run at a time"
    assert float(speeds["Transformer+μP"]) == pytest.approx(0.7, abs=0.02)


def test_the_page_says_who_ran_alone_and_by_which_rules(builder, tmp_path):
    render(builder.store, tmp_path / "out", command="x")
    page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "A panel for each number of runs that shared the machine, whose speeds do not compare" in page
    with (tmp_path / "out" / "tables" / "cost_comparison.csv").open(encoding="utf-8") as file:
        alone = {row["arm"]: row["runs at a time"] for row in csv.DictReader(file)}
    assert alone == dict.fromkeys(LOSSES, "2") | {"RWKV-7": "1"}
    with (tmp_path / "out" / "tables" / "comparison.csv").open(encoding="utf-8") as file:
        rules = {row["arm"]: row["parametrization"] for row in csv.DictReader(file)}
    assert rules["GDN+μP"] == "μP (paper): mup_gdn" and rules["GDN (SP)"] == "SP: sp"
    assert rules["Mamba-2"] == "SP: sp", "an arm without runs has its preset's"


def test_arms_under_other_rules_of_mup_are_told(builder, choices):
    (sentence,) = rule_sentences(list(choices.values()), read_study(builder.store))
    assert sentence.startswith(
        "Transformer+μP (mup_derived) has other μP rules than GDN+μP (mup_gdn): AdamW rate of norm and conv 1, not "
        "m^-1 (factors in the multiplicity of width, here 2;"
    )
    same = [choices[arm] for arm in ("GDN+μP", "GDN (SP)")]
    assert rule_sentences(same, read_study(builder.store)) == []
