"""Runs that begin with another run's checkpoint: branches that decay off a constant run, and fine-tuning."""

import contextlib
import dataclasses
import random
import time

import pytest
import torch

from gdnbench.configuration import from_mapping
from gdnbench.errors import GdnbenchError
from gdnbench.measure import memory
from gdnbench.plan.expand import Planner
from gdnbench.presets import Preset
from gdnbench.results import Store
from gdnbench.runs import checkpoint
from gdnbench.runs.execute import execute
from gdnbench.runs.origins import lost, needed
from gdnbench.runs.progress import Interrupted, Observer
from gdnbench.runs.reproduce import View, reproduce
from gdnbench.runs.worker import Settings
from tests.runs.tiny import gdnbench, kill_group, make_books, numbers, start, study, sweep, write_study

WSD = {"kind": "wsd", "warmup_steps": 2, "decay_fraction": 0.5, "final_fraction": 0.1}
HORIZON = sweep(name="horizon", kind="horizon", horizons=[1, 2, 4], schedule=WSD, training={"steps": 6})
FINE_TUNE = sweep(
    name="tune",
    kind="fine_tune",
    corpus="stdlib",
    start={"optimizer": {"lr": 0.01}, "training": {"steps": 6}},
    training={"steps": 4},
    log2_lrs=[-8, -7],
)


@pytest.fixture(autouse=True)
def deterministic():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def preset(corpus, *experiments, **changes):
    return from_mapping(Preset, study(*experiments, corpus=corpus, **changes), "tiny")


def planned(chosen, losses=None):
    """Return the plan's runs, those that others begin with first."""
    runs = Planner(chosen).plan(losses or {}).runs
    return [s for s in runs if s.origin is None], [s for s in runs if s.origin is not None]


def stopping_after(steps):
    seen = []
    return Observer(beat=seen.append, stop=lambda: len(seen) >= steps)


def run(chosen, store, view=None, **options):
    settings = Settings(root=store.folder.parent, set=store.name, deterministic=True)
    view = view or View()
    return reproduce(chosen, store, settings, workers=1, view=view, expected=lambda spec: 1.0, **options)


class Said(View):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def test_the_trunk_is_constant_and_keeps_where_each_decay_begins(books):
    (trunk,), branches = planned(preset(books, HORIZON))
    assert trunk.schedule.kind == "constant"
    assert [branch.training.steps for branch in branches] == [6, 12, 24]
    assert trunk.training.keep_at == (4, 7, 13), "2 steps warm up, then half is left: 2 + 4 / 2, 2 + 10 / 2, 2 + 22 / 2"
    assert trunk.training.steps == 13
    assert [branch.origin.step for branch in branches] == [4, 7, 13]
    assert {branch.origin.run for branch in branches} == {trunk.run_id}


def test_a_branch_is_the_whole_run_with_its_decay(tmp_path, books):
    """To the last bit: nothing but the steps that were shared was saved."""
    (trunk,), branches = planned(preset(books, HORIZON))
    store = Store(tmp_path, "s")
    execute(trunk, store, Observer())
    for branch in branches:
        execute(branch, store, Observer())
        whole = dataclasses.replace(branch, origin=None)
        execute(whole, store, Observer())
        mine, its = numbers(store, branch.run_id), numbers(store, whole.run_id)
        inherited = mine["metrics"].pop("inherited_tokens")["value"]
        assert inherited == branch.origin.step * 2 * 16
        assert mine["metrics"] == its["metrics"]
        after = [row for row in its["rows"] if row["step"] > branch.origin.step]
        assert [row for row in mine["rows"] if row["step"] in {r["step"] for r in after}] == after


def test_branch_and_trunk_may_be_interrupted_anywhere(tmp_path, books):
    (trunk,), branches = planned(preset(books, HORIZON))
    whole, parts = Store(tmp_path, "whole"), Store(tmp_path, "parts")
    for spec in (trunk, branches[-1]):
        execute(spec, whole, Observer())
        for _ in range(spec.training.steps - spec.first_step - 1):
            with pytest.raises(Interrupted):
                execute(spec, parts, stopping_after(1))
        execute(spec, parts, Observer())
        assert numbers(parts, spec.run_id) == numbers(whole, spec.run_id)


def test_a_run_without_its_origin_is_one_line(tmp_path, books):
    _, branches = planned(preset(books, HORIZON))
    with pytest.raises(GdnbenchError, match=r"begins with the checkpoint of .* at step 4, which is not here"):
        execute(branches[0], Store(tmp_path, "s"), Observer())


def test_a_kept_checkpoint_that_is_gone_makes_the_run_begin_again(tmp_path, books):
    (trunk,), _ = planned(preset(books, HORIZON))
    store = Store(tmp_path, "s")
    with pytest.raises(Interrupted):
        execute(trunk, store, stopping_after(6))
    store.kept_path(trunk.run_id, 4).unlink()
    execute(trunk, store, Observer())
    assert store.kept_path(trunk.run_id, 4).exists()
    (note,) = (note for note in store.read(trunk.run_id).notes if note != memory.NOT_RESET)
    assert "step 4" in note


def test_reproduction_goes_trunk_first_and_removes_what_nobody_needs(tmp_path, books):
    chosen, store = preset(books, HORIZON), Store(tmp_path, "s")
    summary = run(chosen, store)
    assert not summary.failed
    assert summary.left == 0
    assert summary.stored[0] == planned(chosen)[0][0].run_id
    assert len(summary.stored) == 4
    assert not list(store.folder.glob("runs/*/checkpoint*.pt"))


def test_a_trunk_whose_checkpoints_did_not_travel_is_run_again(tmp_path, books):
    chosen, store, said = preset(books, HORIZON), Store(tmp_path, "s"), Said()
    (trunk,), branches = planned(chosen)
    execute(trunk, store, Observer())
    execute(branches[0], store, Observer())
    for step in trunk.training.keep_at:
        store.kept_path(trunk.run_id, step).unlink()
    assert lost(store, needed(branches[1:])) == [trunk.run_id]
    summary = run(chosen, store, said)
    assert summary.stored == [trunk.run_id, *(branch.run_id for branch in branches[1:])]
    assert any(trunk.run_id in line and "not here" in line for line in said.lines)


def test_branches_of_a_trunk_that_diverged_are_diverged(tmp_path, books):
    bad = {**HORIZON, "log2_lrs": [12], "optimizer": {"name": "sgd", "clip": 0.0}}
    chosen, store = preset(books, bad), Store(tmp_path, "s")
    summary = run(chosen, store)
    assert not summary.failed
    outcomes = {record.run_id: record for record in store.records()}
    assert len(outcomes) == 4
    assert {record.outcome for record in outcomes.values()} == {"diverged"}
    (trunk,), branches = planned(chosen)
    for branch in branches:
        assert trunk.run_id in outcomes[branch.run_id].detail or "loss" in outcomes[branch.run_id].detail


def test_the_base_width_of_a_horizon_is_trained_once_for_all_tables(books):
    arms = [{"name": "SP", "arch": "gdn"}, {"name": "muP", "arch": "gdn", "table": "mup_gdn"}]
    trunks, branches = planned(preset(books, {**HORIZON, "arms": arms, "widths": [16, 32]}))
    assert [(s.arm, s.model.width) for s in trunks] == [("SP", 16), ("SP", 32), ("muP", 32)]
    assert len(branches) == 9


def test_fine_tuning_begins_with_the_weights_and_the_tokens_of_the_first_corpus(tmp_path, books):
    chosen, store = preset(books, FINE_TUNE, tokenizer="bpe:260"), Store(tmp_path, "s")
    (first,), tuned = planned(chosen)
    assert first.optimizer.lr == 0.01
    assert first.data.corpus == books
    assert {run.origin.takes for run in tuned} == {"weights"}
    execute(first, store, Observer())
    start = checkpoint.load(store.kept_path(first.run_id, 6))["model"]
    for spec in tuned:
        execute(spec, store, Observer())
        record = store.read(spec.run_id)
        assert record.data["corpus"] == "stdlib"
        assert record.data["tokenizer_hash"] == store.read(first.run_id).data["tokenizer_hash"]
        assert record.metric("train_tokens") == 4 * 2 * 16
        assert any(f"began with weights of {first.run_id}" in note for note in record.notes)
    frozen = dataclasses.replace(tuned[0], optimizer=dataclasses.replace(tuned[0].optimizer, lr=1e-30))
    frozen = dataclasses.replace(frozen, training=dataclasses.replace(frozen.training, keep_checkpoint=True))
    execute(frozen, store, Observer())
    for name, weight in checkpoint.load(store.checkpoint_path(frozen.run_id))["model"].items():
        assert torch.equal(weight, start[name]), name


def test_weights_are_not_continued_in_other_tokens(tmp_path, books):
    store = Store(tmp_path, "s")
    (first,), (spec, _) = planned(preset(books, FINE_TUNE, tokenizer="bpe:260"))
    execute(first, store, Observer())
    kept = store.kept_path(first.run_id, 6)
    checkpoint.save(kept, {**checkpoint.load(kept), "tokenizer_hash": "f" * 64})
    with pytest.raises(GdnbenchError, match="another tokenizer"):
        execute(spec, store, Observer())


def test_a_branch_goes_on_in_the_same_text_only(tmp_path):
    books = make_books(tmp_path / "books")
    store = Store(tmp_path, "s")
    (trunk,), (branch, *_) = planned(preset(books, HORIZON))
    execute(trunk, store, Observer())
    kept = store.kept_path(trunk.run_id, 4)
    checkpoint.save(kept, {**checkpoint.load(kept), "corpus_hash": "f" * 64})
    with pytest.raises(GdnbenchError, match="another content of corpus"):
        execute(branch, store, Observer())


def test_kill_9_of_trunk_and_branches(tmp_path, books):
    """The command is killed at random moments until it is through, and ends at the same bits."""
    content = {**HORIZON, "training": {"steps": 100, "checkpoint_every": 20}}
    chosen, rng = preset(books, content), random.Random(time.time_ns())
    path = write_study(tmp_path / "p.yaml", content, corpus=books)
    (trunk,), branches = planned(chosen)
    whole = Store(tmp_path, "whole")
    for spec in (trunk, *branches):
        execute(spec, whole, Observer())
    store, kills = Store(tmp_path / "results", "tiny"), 0
    while len(store.records()) < 4 and kills < 6:
        before = written(store)
        process = start("reproduce", path, "--no-report", "--deterministic", "--workers", "1", cwd=tmp_path)
        deadline = time.monotonic() + 120
        while process.poll() is None and written(store) == before and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        if process.poll() is None:
            kill_group(process)
            kills += 1
        process.communicate()
    done = gdnbench("reproduce", path, "--no-report", "--deterministic", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert kills
    for spec in (trunk, *branches):
        assert numbers(store, spec.run_id) == numbers(whole, spec.run_id)
    assert not list(store.folder.rglob("*.corrupt*"))


def written(store):
    """Return when each checkpoint and record was last written."""
    found = {}
    for path in [*store.folder.glob("runs/*/checkpoint*.pt"), *store.folder.glob("runs/*/run.json")]:
        with contextlib.suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime_ns
    return found
