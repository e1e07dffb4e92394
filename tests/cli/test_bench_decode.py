"""`gdnbench bench decode` on a CPU: records, resumption, budget, red gate, what does not fit, mistakes, a process."""

import json

import pytest
import torch
from gdnbench_kernels.backends import BackendUnavailable

from gdnbench.errors import GdnbenchError
from gdnbench.measure.decoding import own, peers
from gdnbench.measure.decoding.peers import hf_llama
from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.measure.process import Answer
from gdnbench.runs import decoding, decoding_process
from tests.runs.tiny import gdnbench

TINY = ("bench", "decode", "--device", "cpu", "--tokens", "2", "--repeats", "3")
GDN = (*TINY, "--arch", "gdn", "--impl", "gdnbench")
ONE = (*GDN, "--batches", "2", "--contexts", "5")

# What a record of a speed of generation is asked for by name.
FIELDS = {
    "arch", "impl", "params_total", "batch", "context", "dtype", "tokens_per_s", "floor_tokens_per_s",
    "prefill_tokens_per_s", "ttft_ms", "ms_per_token_p50", "ms_per_token_p99", "weights_gib", "state_gib",
    "workspace_gib", "peak_gib", "state_dtype", "size", "block", "correct", "checked", "what_ran", "device", "commit",
    "source_digest", "read_gb_s", "matmul_tflop_s", "notes",
}  # fmt: skip


@pytest.fixture(autouse=True)
def rates(monkeypatch):
    """Calibration takes seconds on a busy machine; the process test does it for real."""
    monkeypatch.setattr(decoding, "calibrate", lambda device: Calibration(copy_gb_s=10.0, matmul_tflop_s=0.1))
    monkeypatch.setattr(decoding, "read_bandwidth", lambda device: 12.0)


@pytest.fixture
def here(monkeypatch):
    """Let the bench ask its questions of this process, and return what was asked."""
    asked = []

    def answers(module, question, *, limit_s, variables):
        asked.append(question)
        for value in decoding_process.answers(question):
            yield Answer(started=0.0, value=json.loads(json.dumps(value)))

    monkeypatch.setattr(decoding, "answers", answers)
    return asked


def rows(command, name="mine"):
    return json.loads(command("results", name).out)


def test_a_process_measures_stores_and_exports(tmp_path):
    done = gdnbench(*ONE, "--set", "mine", "--json", "out.json", cwd=tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert row.keys() >= FIELDS
    assert (row["kind"], row["arch"], row["impl"], row["correct"]) == ("decode", "gdn", "gdnbench", True)
    assert (row["batch"], row["context"], row["dtype"], row["size"]) == (2, 5, "float32", "miniature")
    assert row["gate_error"] < 1e-4
    assert row["tokens_per_s"] > 0 < row["floor_tokens_per_s"]
    assert row["ms_per_token_p50"] <= row["ms_per_token_p99"]
    least = 2 * 2 * 4 * (4 * 8 * 16 + 3 * (2 * 32 + 64))  # 2 rows, 2 layers, float32
    assert least <= row["state_gib"] * 2**30 <= 1.2 * least
    assert row["weights_gib"] * 2**30 == pytest.approx(4 * row["params_total"], rel=0.05), "and what packing pads"
    assert "random weights; prompt fed in 1 of 2 rows, its state copied to the others" in row["notes"]
    assert json.loads(gdnbench("results", "mine", cwd=tmp_path).stdout) == [row]
    stored = next((tmp_path / "results/mine/runs").glob("*/metrics.jsonl")).read_text().splitlines()
    assert [json.loads(line)["type"] for line in stored] == ["sample"] * 3
    assert "1 process, about" in done.stderr, "how long it will take comes first"
    assert "width 64, depth 2, 0.1M parameters, random weights, float32" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110


def test_all_architectures_run(command, here):
    ended = command(*TINY, "--impl", "gdnbench", "--batches", "2", "--contexts", "5", "--set", "mine")
    assert ended.code == 0, ended.err
    found = rows(command)
    assert {(row["arch"], row["block"]) for row in found} == {
        ("gdn", "controlled"), ("transformer", "controlled"), ("mamba2", "native"), ("rwkv7", "native"),
        ("mamba2", "controlled"), ("rwkv7", "controlled"), ("hybrid", "controlled"),
    }  # fmt: skip
    assert all(row["correct"] and row["tokens_per_s"] > 0 for row in found)
    assert len(here) == 7, "a process for each model"


def test_a_process_serves_all_places_and_what_is_stored_is_not_measured_again(command, here):
    pair = (*GDN, "--batches", "1,2", "--contexts", "5", "--set", "mine")
    first = command(*pair)
    assert first.code == 0, first.err
    assert [len(asked["cases"]) for asked in here] == [2]
    again = command(*pair)
    assert (again.code, again.err) == (0, ""), "nothing was left to measure"
    assert again.out == first.out
    assert "1 of 2 to measure" in command(*GDN, "--batches", "2,3", "--contexts", "5", "--set", "mine").err
    assert "1 of 1 to measure" in command(*ONE, "--set", "mine", "--again").err
    assert "1 of 1 to measure" in command(*ONE, "--set", "mine", "--tokens", "3").err
    assert len(rows(command)) == 3, "in its place"


def test_every_record_is_stored_when_it_is_said(command, tmp_path, monkeypatch):
    """A kill after the first place loses nothing of it."""

    def answers(module, question, **how):
        yield Answer(started=0.0, value=json.loads(json.dumps(next(decoding_process.answers(question)))))
        raise KeyboardInterrupt

    monkeypatch.setattr(decoding, "answers", answers)
    pair = (*GDN, "--batches", "1,2", "--contexts", "5", "--set", "mine")
    assert command(*pair, "--json", "out.json").code == 130
    assert len(list((tmp_path / "results/mine/runs").glob("*/run.json"))) == 1
    assert len(json.loads((tmp_path / "out.json").read_text())) == 1


def test_logits_that_are_off_are_red_and_show_no_time(command, here, monkeypatch):
    drawn = own.random_decoder
    monkeypatch.setattr(
        own, "random_decoder", lambda config, *, device, seed: _off(drawn(config, device=device, seed=0))
    )
    ended = command(*ONE, "--set", "mine")
    assert ended.code == 2
    assert "1 of 1 case failed their correctness check" in ended.err
    assert "RED: what is served step by step is off by" in ended.out
    (row,) = rows(command)
    assert (row["correct"], row["tokens_per_s"], row["outcome"]) == (False, None, "finished")
    assert row["floor_tokens_per_s"] > 0


def _off(model):
    """Return a model whose steps lose a tenth of every mixer's output; forward passes are as they were."""
    for block in model.blocks:
        block.mixer.serve = lambda norm, slots, factor=1.0, mixer=block.mixer: type(mixer).serve(
            mixer, norm, slots, factor=0.9 * factor
        )
    return model


def test_a_peer_that_cannot_run_shows_why_and_the_others_go_on(command, here, monkeypatch):
    monkeypatch.setattr(hf_llama, "why_unavailable", lambda config: "it is gone; pip install transformers")
    pair = (*TINY, "--arch", "transformer", "--batches", "1", "--contexts", "5")
    ended = command(*pair, "--set", "mine")
    assert ended.code == 0, ended.err
    assert "unavailable: it is gone; pip install transformers" in ended.out
    assert {row["impl"]: row["outcome"] for row in rows(command)} == {
        "gdnbench": "finished", "hf_llama_static": "unavailable",
    }  # fmt: skip
    alone = command(*pair, "--impl", "hf_llama_static")
    assert alone.code == 2
    assert "nothing could be timed: hf_llama_static: it is gone" in alone.err


def test_hugging_faces_generate_is_a_peer(command, here):
    pytest.importorskip("transformers")
    peer = (*TINY, "--arch", "transformer", "--impl", "hf_llama_static", "--batches", "2", "--contexts", "8")
    ended = command(*peer, "--set", "mine")
    assert ended.code == 0, ended.err
    (row,) = rows(command)
    assert row["tokens_per_s"] > 0 < row["ttft_ms"]
    assert row["notes"] == "random weights; prompts fed in all 2 rows"
    assert row["state_gib"] is None, "a library's cache is its own matter"
    assert "cache=static" in row["what_ran"]


def test_a_library_that_breaks_is_no_fault_of_ours(command, here, monkeypatch):
    monkeypatch.setattr(hf_llama, "why_unavailable", lambda config: None)
    monkeypatch.setattr(hf_llama, "host", lambda case: 1 / 0)
    ended = command(*TINY, "--arch", "transformer", "--batches", "1", "--contexts", "5", "--set", "mine")
    assert ended.code == 0, ended.err
    assert "unavailable: it broke: ZeroDivisionError: division by zero" in ended.out


def test_what_does_not_fit_is_a_record_that_says_what_it_needs(command, here, monkeypatch):
    monkeypatch.setattr(decoding, "_memory", lambda device: 2**24)
    contexts = (*TINY, "--arch", "transformer", "--impl", "gdnbench", "--batches", "4", "--contexts", "5,16384")
    ended = command(*contexts, "--set", "mine")
    assert ended.code == 0, ended.err
    assert "2 of 2 to measure, 1 of them too large" in ended.err
    fits, large = sorted(rows(command), key=lambda row: row["context"])
    assert fits["tokens_per_s"] > 0
    assert (large["outcome"], large["tokens_per_s"]) == ("unavailable", None)
    assert "not run: it needs about" in large["detail"]
    assert "and the device has 0.0; no batch would fit" in large["detail"]
    assert large["floor_gib"] > fits["floor_gib"]
    assert [case["context"] for asked in here for case in asked["cases"]] == [5], "it was not tried"


def test_memory_that_ends_in_spite_of_the_plan_is_said_of_that_place_alone(command, here, monkeypatch):
    opened = own.OwnHost.session

    def limited(self, prompts, batch, generated):
        if batch > 1:
            raise GdnbenchError("batch 2 with capacity 16 needs 3 GiB of state")
        return opened(self, prompts, batch, generated)

    monkeypatch.setattr(own.OwnHost, "session", limited)
    ended = command(*GDN, "--batches", "1,2", "--contexts", "5", "--set", "mine")
    assert ended.code == 0, ended.err
    assert "unavailable: batch 2 with capacity 16 needs 3 GiB of state" in ended.out
    assert sorted(row["outcome"] for row in rows(command)) == ["finished", "unavailable"]


def test_a_process_that_breaks_leaves_its_last_words_and_the_next_place_is_tried(command, monkeypatch):
    asked = []

    def answers(module, question, **how):
        asked.append(len(question["cases"]))
        yield Answer(started=0.0, value=None, reason="RuntimeError: CUDA error: an illegal memory access")

    monkeypatch.setattr(decoding, "answers", answers)
    ended = command(*GDN, "--batches", "1,2", "--contexts", "5", "--set", "mine")
    assert ended.code == 2
    assert "failed: RuntimeError: CUDA error: an illegal memory access" in ended.out
    assert asked == [2, 1]


def test_a_backend_that_cannot_run_is_said_of_every_place(command, here, monkeypatch):
    def broken(case):
        raise BackendUnavailable("backend 'triton' of gated_delta cannot run here: no GPU")

    monkeypatch.setattr(decoding_process, "OwnHost", broken)
    ended = command(*GDN, "--batches", "1,2", "--contexts", "5")
    assert ended.code == 2
    assert "nothing could be timed: gdnbench: backend 'triton' of gated_delta cannot run here: no GPU" in ended.err


def test_a_budget_that_ends_names_what_is_left_out(command, here, monkeypatch):
    pair = (*GDN, "--batches", "1,2", "--contexts", "5", "--set", "mine")
    with monkeypatch.context() as patch:
        patch.setattr(decoding.expected, "start_s", lambda case: 0.0)
        patch.setattr(decoding.expected, "seconds", lambda case, read, calibration: 2000.0 * (case.batch - 1))
        ended = command(*pair, "--budget-s", "1000")
    assert ended.code == 0, ended.err
    assert "left out, since the budget of seconds was used up: 1 place;" in ended.out
    assert "gdn (controlled) miniature gdnbench, batch 2, context 5" in ended.out
    assert [row["batch"] for row in rows(command)] == [1]
    assert "left out" not in command(*pair).out, "the same command goes on"
    assert len(rows(command)) == 2


def test_a_process_that_outlives_the_budget_is_left_out(command, monkeypatch):
    def answers(*asked, **how):
        monkeypatch.setattr(decoding.Budget, "left", lambda budget: 0.0)
        yield Answer(started=0.0, value=None, reason="not finished after 1 s", timed_out=True)

    monkeypatch.setattr(decoding, "answers", answers)
    ended = command(*ONE, "--budget-s", "1000", "--set", "mine")
    assert ended.code == 0, ended.err
    assert "left out" in ended.out
    assert command("results", "mine").code == 2, "nothing was stored"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_cuda_is_one_clear_line(command):
    ended = command("bench", "decode")
    assert ended.code == 2
    assert "device cuda was asked for, but no usable NVIDIA GPU was found" in ended.err


def test_a_set_of_runs_takes_no_speeds_of_generation(command, tmp_path):
    (tmp_path / "results/quick/presets").mkdir(parents=True)
    ended = command(*GDN, "--set", "quick")
    assert ended.code == 2
    assert "speeds of generation need a set of their own" in ended.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--arch", "gdm"), "unknown architecture 'gdm'; did you mean gdn"),
        (("--arch", "nope"), "known: gdn, hybrid, mamba2, rwkv7, transformer"),
        (("--impl", "fla_generat"), "unknown --impl 'fla_generat'; did you mean fla_generate"),
        (("--size", "1.3B"), "unknown --size '1.3B'; did you mean 1.3b"),
        (("--arch", "transformer", "--impl", "fla_generate"), "none of them runs transformer"),
        (("--batches", "0"), "--batches 0: expected a whole number above 0"),
        (("--contexts", "1k"), "--contexts '1k': expected whole numbers separated by commas"),
        (("--tokens", "0"), "--tokens 0: expected a whole number above 0"),
        (
            ("--arch", "transformer", "--width", "50"),
            "--width 50: not all models asked for can have it; 48 or 56 would do",
        ),
        (("--backend", "gated=torch"), "unknown operation of model.backend"),
        (("--device", "tpu"), "tpu"),
    ],
)
def test_a_mistake_is_one_line(command, options, said):
    ended = command(*TINY, *options)
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def test_the_table_names_every_peer_and_nothing_else():
    from gdnbench.measure.decoding.grid import table

    content = table()
    ways = {name for named in content.ways.values() for name in named}
    assert {impl for entry in content.models for impl in entry.impls} == {*peers.PEERS, *ways}
