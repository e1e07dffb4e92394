"""Variants beside baselines: what is asked for becomes a preset; runs are reused; who fails is told and left out."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from gdnbench import cli, launch
from gdnbench.check.new import new_mixer
from gdnbench.compare import Budget, parse_budget, preset_of
from gdnbench.configuration import from_mapping
from gdnbench.errors import GdnbenchError
from gdnbench.models import registry
from gdnbench.plan.expand import expand
from gdnbench.presets import Preset, load_preset
from gdnbench.results import Store
from gdnbench.runs.execute import execute
from gdnbench.runs.progress import Observer
from gdnbench.runs.reuse import reuse
from tests.runs.tiny import study, write_study

COMPARISON = {
    "name": "comparison", "kind": "comparison", "widths": [16], "log2_lrs": [-7], "seeds": [0],
    "match": {"by": "parameters", "reference": "T", "tolerance": 0.5},
    "arms": [{"name": "T", "arch": "transformer", "table": "mup_derived"}, {"name": "G", "arch": "gdn"}],
}  # fmt: skip
COORDINATES = {
    "name": "coordinates", "kind": "coord_check", "widths": [16, 32], "coordinates": {"batch_size": 2, "seq_len": 8},
    "arms": [{"name": "G", "arch": "gdn"}],
}  # fmt: skip
DECODE = {
    "name": "decode", "kind": "decode", "widths": [16], "contexts": [4], "decode": {"tokens": 2},
    "arms": [{"name": "T", "arch": "transformer"}],
}  # fmt: skip


def tiny_study(corpus):
    return study(COMPARISON, COORDINATES, DECODE, corpus=corpus)


@pytest.mark.parametrize(
    ("text", "device", "expected"),
    [
        (None, "cpu", ("quick", None)),
        (None, "cuda", ("h200-125m", None)),
        ("15M", "cpu", ("quick", 15_000_000)),
        ("paper", "cpu", ("paper", None)),
        ("quick:1.5k", "cuda", ("quick", 1500)),
    ],
)
def test_budgets(text, device, expected):
    budget = parse_budget(text, device)
    assert (budget.preset, budget.tokens) == expected


@pytest.mark.parametrize("text", ["quick:many", "quick:0", "quick:-3"])
def test_budgets_that_are_none(text):
    with pytest.raises(GdnbenchError, match=r"--budget .*15M"):
        parse_budget(text, "cpu")


def test_the_baselines_runs_are_those_of_the_budgets_preset(root):
    name = registry.resolve(str(root / "examples" / "kimi_delta.py"))
    quick = load_preset("quick")
    preset = preset_of(quick, [name], ["transformer", "GDN (SP)"], budget=Budget(preset="quick"))
    (comparison,) = [e for e in preset.experiments if e.kind == "comparison"]
    assert [arm.name for arm in comparison.arms] == ["Transformer+μP", "GDN (SP)", name]
    assert {e.kind for e in preset.experiments} == {"comparison", "coord_check", "decode"}
    planned, known = expand(preset, {}).runs, {spec.run_id for spec in expand(quick, {}).runs}
    for spec in (spec for spec in planned if spec.training is not None):
        assert (spec.run_id in known) == (spec.model.arch != name), spec.run_id
    shorter = preset_of(quick, [name], ["gdn"], budget=Budget(preset="quick", tokens=36 * 12 * 64), seeds=2)
    (spec, *_) = (spec for spec in expand(shorter, {}).runs if spec.training is not None)
    assert (spec.training.steps, spec.schedule.warmup_steps) == (36, 4)
    assert spec.matched.reference == "GDN+μP", "the first of those that are there"


def test_a_baseline_that_is_not_there():
    with pytest.raises(GdnbenchError, match="did you mean transformer"):
        preset_of(load_preset("quick"), [], ["transfomer"], budget=Budget(preset="quick"))


def test_runs_of_another_set_are_reused_while_all_is_the_same(books, tmp_path):
    preset = from_mapping(Preset, tiny_study(books), "tiny")
    (first, second, *_) = expand(preset, {}).runs
    for spec in (first, second):
        execute(spec, Store(tmp_path, "earlier"), Observer())
    record = Store(tmp_path, "earlier").read(second.run_id)
    Store(tmp_path, "earlier").write(dataclasses.replace(record, source_digest="of other files"))
    found = reuse(preset, tmp_path, "now")
    assert dict(found.taken) == {("T", "earlier"): 1}
    assert found.lines() == ["reused: 1 run of T from the set earlier (same code, data, configuration and device)"]
    copied = Store(tmp_path, "now").read(first.run_id)
    assert copied.metrics == Store(tmp_path, "earlier").read(first.run_id).metrics
    assert copied.notes[-1].endswith("for the set earlier")
    assert Store(tmp_path, "now").rows(first.run_id)
    assert dict(reuse(preset, tmp_path, "now").taken) == {("T", "earlier"): 1}, "told again by the next call"
    Store(tmp_path, "now").write(dataclasses.replace(copied, source_digest="of other files"))
    assert dict(reuse(preset, tmp_path, "now").outdated) == {"T": 1}
    assert dict(reuse(preset, tmp_path, "now").outdated) == {}


@pytest.fixture
def folder(tmp_path, books, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_study(Path("tiny.yaml"), COMPARISON, COORDINATES, DECODE, corpus=books)
    for name in ("right", "not_a_number"):
        new_mixer(name, tmp_path)
    path = Path("not_a_number.py")
    path.write_text(
        path.read_text().replace("(self.norm(o).flatten(2))", "(self.norm(o).flatten(2) * (0 * o.sum() / 0))")
    )
    Path("absent.py").write_text("import nowhere\n")
    return tmp_path


def test_who_fails_is_told_and_the_others_are_compared(folder):
    ended = CliRunner().invoke(
        cli.app,
        ["compare", "right.py", "not_a_number.py", "absent.py", "--against", "transformer", "--budget", "tiny.yaml",
         "--anyway", "--workers", "1"],
    )  # fmt: skip
    assert ended.exit_code == 1, ended.output
    assert "FAILED   absent.py: import: line 1" in ended.output
    assert "expected: " in ended.output
    assert "left out or failed: absent" in ended.output
    page = (folder / "reports" / "compare-right-not_a_number-absent-tiny" / "report.md").read_text()
    assert "Left out: absent. What was found:" in page
    assert "- absent.py: import: line 1" in page
    assert "not\\_a\\_number: all of its 1 run diverged" in page or "not_a_number: all of its 1 run diverged" in page
    assert "right beside the other arms, seed by seed" in page
    assert "validation loss (nat/token)" in page
    assert "n = 1" in page
    about = json.loads(next((folder / "results").glob("compare-*/presets/*.compare.json")).read_text())
    assert about["variants"] == ["right", "not_a_number"]
    assert list(about["left_out"]) == ["absent"]


def test_it_asks_before_it_costs_much(folder, monkeypatch):
    called = ["compare", "right.py", "--against", "gdn", "--budget", "tiny.yaml", "--anyway", "--max-hours", "0"]
    ended = CliRunner().invoke(cli.app, called)
    assert isinstance(ended.exception, GdnbenchError)
    assert "--yes goes on" in str(ended.exception)
    someone = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("gdnbench.cli.variants.sys", someone)
    ended = CliRunner().invoke(cli.app, called, input="n\n")
    assert ended.exit_code == 1
    assert ended.output.endswith("nothing was run\n")
    assert not list((folder / "results").glob("*/runs/*/run.json"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--table", "mup_derivd"], "unknown parametrization 'mup_derivd'; did you mean mup_derived"),
        (["--mixer-backend", "short_convolution=nope"], "backend 'nope' does not serve short_convolution; these do:"),
    ],
)
def test_nothing_runs_where_no_mixer_is_left(options, said, folder):
    called = ["compare", "mamba2", "--against", "transformer", "--budget", "tiny.yaml", "--anyway", *options]
    ended = CliRunner().invoke(cli.app, called)
    assert isinstance(ended.exception, GdnbenchError)
    assert "no mixer is left to compare" in str(ended.exception)
    assert f"FAILED   mamba2: plan: {said}" in ended.output
    assert not Path("results").exists()


@pytest.mark.parametrize("name", ["quick", "h200"])
def test_the_examples_presets(name, root):
    for example in ("kimi_delta", "gdn_negative"):
        registry.resolve(str(root / "examples" / f"{example}.py"))
    chosen = launch.choose(str(root / "examples" / f"{name}.yaml"))
    runs = expand(chosen.preset, {}).runs
    assert {spec.model.arch for spec in runs} == {"gdn", "transformer", "kimi_delta", "gdn_negative"}
    assert all(abs(spec.matched.deviation) < 0.01 for spec in runs)
    if name == "h200":
        whole = load_preset("h200-125m")
        short = next(e for e in whole.experiments if e.name == "comparison-short")
        short = dataclasses.replace(short, arms=short.arms[:2])
        known = {spec.run_id for spec in expand(dataclasses.replace(whole, experiments=(short,)), {}).runs}
        assert all(spec.run_id in known for spec in runs if spec.model.arch in ("gdn", "transformer"))
