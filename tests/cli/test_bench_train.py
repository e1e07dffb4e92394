"""`gdnbench bench train` on a CPU: records, resumption, budget, red gate, memory, mistakes, real processes."""

import json

import pytest
import torch
from gdnbench_kernels.backends import BackendUnavailable

from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.measure.process import Answer
from gdnbench.measure.training.peers import hf_llama
from gdnbench.runs import training, training_process, training_step
from tests.runs.tiny import gdnbench

TINY = (
    "bench", "train", "--device", "cpu", "--width", "24", "--depth", "1", "--vocab", "64", "--batch", "2",
    "--seq-len", "16", "--steps", "3",
)  # fmt: skip
GDN = (*TINY, "--arch", "gdn", "--impl", "gdnbench")

# What a record of a training speed is asked for by name.
FIELDS = {
    "arch", "impl", "params_total", "params_non_embedding", "batch", "seq_len", "dtype", "tokens_per_s", "mfu",
    "floor_tokens_per_s", "peak_gib", "first_step_s", "spread_tokens_per_s", "steps", "device", "torch_version",
    "triton_version", "driver", "commit", "source_digest", "copy_gb_s", "matmul_tflop_s", "correct", "what_ran",
    "block", "width", "depth", "caches", "first_loss", "gate_loss", "ready_s",
}  # fmt: skip


@pytest.fixture(autouse=True)
def rates(monkeypatch):
    """Calibration takes seconds on a busy machine; the process test does it for real."""
    monkeypatch.setattr(training, "calibrate", lambda device: Calibration(copy_gb_s=10.0, matmul_tflop_s=0.1))


@pytest.fixture
def here(monkeypatch):
    """Let the bench ask its questions of this process, and return what was asked."""
    asked = []

    def ask(module, question, *, limit_s, variables):
        asked.append(question)
        return Answer(started=0.0, value=json.loads(json.dumps(training_process.answer(question))))

    monkeypatch.setattr(training, "ask", ask)
    return asked


def rows(command, name="mine"):
    return json.loads(command("results", name).out)


def test_a_process_measures_stores_and_exports(tmp_path):
    done = gdnbench(*GDN, "--set", "mine", "--json", "out.json", cwd=tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert row.keys() >= FIELDS
    assert (row["kind"], row["arch"], row["impl"], row["correct"]) == ("train_throughput", "gdn", "gdnbench", True)
    assert row["gate_loss"] < row["first_loss"] == pytest.approx(torch.tensor(64.0).log().item(), abs=0.1)
    assert row["tokens_per_s"] > 0 < row["floor_tokens_per_s"]
    assert row["peak_gib"] > 0 < row["first_step_s"]
    assert row["mfu"] is None, "no data sheet promises anything for this processor"
    assert row["params_total"] - row["params_non_embedding"] == 64 * 24
    assert json.loads(gdnbench("results", "mine", cwd=tmp_path).stdout) == [row]
    stored = next((tmp_path / "results/mine/runs").glob("*/metrics.jsonl")).read_text().splitlines()
    kinds = [json.loads(line)["type"] for line in stored]
    assert kinds.count("sample") == 3
    assert kinds.count("component") > 5
    assert "GB/s" in done.stderr, "progress goes to standard error"
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_all_architectures_run(command, here):
    sizes = ("--width", "192", "--depth", "2", "--vocab", "64", "--batch", "1", "--seq-len", "16", "--steps", "1")
    ended = command("bench", "train", "--device", "cpu", *sizes, "--impl", "gdnbench", "--set", "mine")
    assert ended.code == 0, ended.err
    assert {(row["arch"], row["block"]) for row in rows(command)} == {
        ("gdn", "controlled"), ("transformer", "controlled"), ("mamba2", "native"), ("rwkv7", "native"),
        ("mamba2", "controlled"), ("rwkv7", "controlled"), ("hybrid", "controlled"),
    }  # fmt: skip


def test_what_is_stored_is_not_measured_again(command, here, monkeypatch):
    first = command(*GDN, "--set", "mine")
    assert first.code == 0, first.err
    again = command(*GDN, "--set", "mine")
    assert (again.code, again.err) == (0, ""), "nothing was left to measure"
    assert again.out == first.out
    assert "1 of 1 to measure" in command(*GDN, "--set", "mine", "--again").err
    assert "1 of 1 to measure" in command(*GDN, "--set", "mine", "--batch", "3").err
    assert len(rows(command)) == 2
    assert "1 of 1 to measure" in command(*GDN, "--set", "mine", "--backend", "gated_delta=reference").err
    assert sorted(row["backend"] for row in rows(command)) == ["gated_delta=reference", "torch"], "in its place"
    assert "1 of 1 to measure" in command(*GDN, "--set", "mine").err
    monkeypatch.setattr(training, "training_digest", lambda model: "of other sources")
    assert "1 of 1 to measure" in command(*GDN, "--set", "mine").err


def test_every_record_is_stored_when_it_is_measured(command, here, tmp_path, monkeypatch):
    """A kill after the first row loses nothing of it."""
    answer = training_process.answer

    def killed(question):
        if len(here) > 1:
            raise KeyboardInterrupt
        return answer(question)

    monkeypatch.setattr(training_process, "answer", killed)
    pair = (*TINY, "--arch", "gdn,transformer", "--impl", "gdnbench")
    assert command(*pair, "--set", "mine", "--json", "out.json").code == 130
    assert len(list((tmp_path / "results/mine/runs").glob("*/run.json"))) == 1
    assert len(json.loads((tmp_path / "out.json").read_text())) == 1


def test_a_step_that_does_not_train_is_red_and_shows_no_time(command, here, monkeypatch):
    planted = training_step.Optimizer
    monkeypatch.setattr(training_step, "Optimizer", lambda **given: planted(**{**given, "lr": 0.0}))
    ended = command(*GDN, "--set", "mine")
    assert ended.code == 2
    assert "1 of 1 case failed their correctness check" in ended.err
    assert "RED: it does not train: loss" in ended.out
    (row,) = rows(command)
    assert (row["correct"], row["tokens_per_s"], row["outcome"]) == (False, None, "finished")
    assert row["floor_tokens_per_s"] > 0
    assert command(*GDN, "--set", "mine").code == 2, "and it stays red"


def test_a_peer_that_cannot_run_shows_why_and_the_others_go_on(command, here, monkeypatch):
    monkeypatch.setattr(hf_llama, "why_unavailable", lambda config: f"it is gone; {hf_llama.INSTALL}")
    ended = command(*TINY, "--arch", "transformer", "--set", "mine")
    assert ended.code == 0, ended.err
    assert 'unavailable: it is gone; pip install "transformers' in ended.out
    assert {row["impl"]: row["outcome"] for row in rows(command)} == {
        "gdnbench": "finished", "hf_llama_compiled": "unavailable",
    }  # fmt: skip
    alone = command(*TINY, "--arch", "transformer", "--impl", "hf_llama_compiled")
    assert alone.code == 2
    assert "nothing could be timed: hf_llama_compiled: it is gone" in alone.err


def test_too_large_a_batch_says_which_fits(command, here, monkeypatch):
    """The process that runs out of memory says so, and the bench tries halves."""
    trainer = training_process.OwnTrainer

    def limited(case):
        if case.batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
        return trainer(case)

    monkeypatch.setattr(training_process, "OwnTrainer", limited)
    ended = command(*GDN, "--batch", "8", "--set", "mine")
    assert ended.code == 2
    (row,) = rows(command)
    assert (row["outcome"], row["tokens_per_s"]) == ("failed", None)
    assert row["detail"].startswith("out of GPU memory at batch 8 x 16; --batch 2 fits, with a peak of ")
    assert [asked["case"]["batch"] for asked in here] == [8, 4, 2]
    assert [asked["steps"] for asked in here] == [3, 0, 0], "memory takes two steps, and no timing"


def test_a_step_that_fits_nowhere_says_so(command, here, monkeypatch):
    def never(case):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(training_process, "OwnTrainer", never)
    ended = command(*GDN, "--set", "mine")
    assert "out of GPU memory at batch 2 x 16, and at every smaller batch" in ended.err


def test_a_backend_of_ours_that_cannot_run_is_a_failure(command, here, monkeypatch):
    def broken(case):
        raise BackendUnavailable("backend 'triton' of gated_delta cannot run here: no GPU")

    monkeypatch.setattr(training_process, "OwnTrainer", broken)
    ended = command(*GDN, "--set", "mine")
    assert ended.code == 2
    assert "cannot run here: no GPU" in ended.err
    assert rows(command)[0]["outcome"] == "failed"


def test_a_process_that_breaks_leaves_its_last_words(command, monkeypatch):
    broken = Answer(started=0.0, value=None, reason="RuntimeError: CUDA error: an illegal memory access")
    monkeypatch.setattr(training, "ask", lambda *asked, **how: broken)
    ended = command(*GDN)
    assert ended.code == 2
    assert "failed: RuntimeError: CUDA error: an illegal memory access" in ended.out


def test_a_budget_that_ends_names_what_is_left_out_and_stores_nothing_of_it(command, here, monkeypatch):
    pair = (*TINY, "--arch", "gdn,transformer", "--impl", "gdnbench", "--set", "mine")
    with monkeypatch.context() as patch:
        patch.setattr(training.Budget, "allows", lambda budget, kind: not budget.longest)
        ended = command(*pair, "--budget-s", "1000")
    assert ended.code == 0, ended.err
    assert "left out, since the budget of seconds was used up: 1 row;" in ended.out
    assert "transformer (controlled) gdnbench" in ended.out
    assert [row["arch"] for row in rows(command)] == ["gdn"]
    assert "left out" not in command(*pair).out, "the same command goes on"
    assert len(rows(command)) == 2


def test_a_process_that_outlives_the_budget_is_left_out(command, monkeypatch):
    late = Answer(started=0.0, value=None, reason="not finished after 1 s", timed_out=True)
    monkeypatch.setattr(training, "ask", lambda *asked, **how: late)
    monkeypatch.setattr(training.Budget, "left", lambda budget: 0.0)
    ended = command(*GDN, "--budget-s", "1", "--set", "mine")
    assert ended.code == 0, ended.err
    assert "left out" in ended.out
    assert command("results", "mine").code == 2, "nothing was stored"


def test_a_profile_is_asked_for_and_measured_once(command, here, monkeypatch):
    """Planted kernels: a CPU has none."""
    from gdnbench.measure.training import stepping
    from gdnbench.measure.training.components import grouped

    planted = tuple(grouped([("nvjet_a", 2.0), ("somebodys", 1.0)], steps=1))
    monkeypatch.setattr(stepping, "profiled", lambda step: planted)
    monkeypatch.setattr(training, "check_profile", lambda device: None)
    assert command(*GDN, "--set", "mine").code == 0
    profiled = command(*GDN, "--set", "mine", "--profile")
    assert "1 of 1 to measure" in profiled.err, "what is stored has no profile"
    assert [asked["profile"] for asked in here] == [False, True]
    assert command(*GDN, "--set", "mine", "--profile").err == ""
    assert command(*GDN, "--set", "mine").err == "", "a profiled record serves both"


def test_a_mixer_of_ones_own_is_measured(command, here, tmp_path):
    from gdnbench.models import registry

    source = registry.source_file("transformer").read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(source.replace('options(config, "transformer"', 'options(config, "mine"'))
    ended = command(*TINY, "--mixer", tmp_path / "mine.py", "--arch", "mine")
    assert ended.code == 0, ended.err
    assert "mine (controlled)" in ended.out
    registry._added.pop("mine")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_cuda_is_one_clear_line(command):
    ended = command("bench", "train")
    assert ended.code == 2
    assert "device cuda was asked for, but no usable NVIDIA GPU was found" in ended.err


def test_a_set_of_runs_takes_no_training_speeds(command, tmp_path):
    (tmp_path / "results/quick/presets").mkdir(parents=True)
    ended = command(*GDN, "--set", "quick")
    assert ended.code == 2
    assert "training speeds need a set of their own" in ended.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--arch", "gdm"), "unknown architecture 'gdm'; did you mean gdn"),
        (("--impl", "fla_eagr"), "unknown --impl 'fla_eagr'; did you mean fla_eager"),
        (("--arch", "transformer", "--impl", "fla_eager"), "none of them trains transformer"),
        (("--batch", "0"), "--batch 0: expected a whole number above 0"),
        (
            ("--arch", "transformer", "--width", "50"),
            "--width 50: not all models asked for can have it; 48 or 72 would do",
        ),
        (("--arch", "gdn", "--profile"), "--profile: the parts of a step are told by its GPU kernels"),
        (("--backend", "gated=torch"), "unknown operation of model.backend"),
        (("--device", "tpu"), "tpu"),
    ],
)
def test_a_mistake_is_one_line(command, options, said):
    ended = command(*TINY, *options)
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1
