"""`gdnbench bench kernels` on a CPU: records, resumption, budget, red checks, mistakes, first calls."""

import json

import pytest
import torch
from gdnbench_kernels.gated_delta.impl import reference as backend

from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.measure.kernels.measure import BlockRun
from gdnbench.runs import kernels
from tests.runs.tiny import gdnbench

TINY = ("bench", "kernels", "--device", "cpu", "--shapes", "1,70,1,16,16", "--repeats", "2")
DELTA = (*TINY, "--parts", "delta", "--gates", "default", "--qk", "given")
PAIR = (*DELTA, "--backends", "torch,reference", "--peer", "reference")

# What a record of a kernel is asked for by name.
FIELDS = {
    "op", "impl", "B", "T", "H", "K", "V", "dtype", "direction", "timing", "qk_norm", "gates", "ms", "spread_ms",
    "floor_ms", "peak_extra_gib", "max_rel_error", "correct", "device", "torch_version", "triton_version", "driver",
    "commit", "source_digest", "peer", "what_ran", "seed", "copy_gb_s", "matmul_tflop_s", "repeats",
}  # fmt: skip


@pytest.fixture(autouse=True)
def rates(monkeypatch):
    """Calibration takes seconds on a busy machine; the process test does it for real."""
    monkeypatch.setattr(kernels, "calibrate", lambda device: Calibration(copy_gb_s=10.0, matmul_tflop_s=0.1))


def test_a_process_measures_stores_and_exports(tmp_path):
    done = gdnbench(*PAIR, "--set", "mine", "--json", "out.json", cwd=tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())
    directions = ("forward", "forward_backward")
    timed = [(row["impl"], row["direction"]) for row in rows]
    assert timed == [(impl, direction) for direction in directions for impl in ("torch", "reference")]
    assert all(row.keys() >= FIELDS for row in rows)
    assert all(row["kind"] == "kernel" and row["correct"] and row["ms"] > 0 and row["floor_ms"] > 0 for row in rows)
    ours = rows[0]
    assert (ours["peer"], ours["timing"], ours["repeats"]) == ("reference", "eager", 2)
    assert ours["peer_ratio_low"] <= ours["peer_ratio"] <= ours["peer_ratio_high"]
    assert "peer_ratio" not in rows[1]
    exported = json.loads(gdnbench("results", "mine", cwd=tmp_path).stdout)
    assert sorted(exported, key=lambda row: row["run_id"]) == sorted(rows, key=lambda row: row["run_id"])
    assert "fwd+bwd" in done.stdout
    assert "GB/s" in done.stderr, "progress goes to standard error"
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_what_is_stored_is_not_measured_again(command, tmp_path, monkeypatch):
    first = command(*DELTA, "--set", "mine")
    assert first.code == 0, first.err
    again = command(*DELTA, "--set", "mine")
    assert again.code == 0
    assert again.err == "", "nothing was left to measure"
    assert again.out == first.out
    forced = command(*DELTA, "--set", "mine", "--again")
    assert "groups to measure" in forced.err
    monkeypatch.setattr(kernels, "kernels_digest", lambda: "of other sources")
    assert "groups to measure" in command(*DELTA, "--set", "mine").err


def test_every_group_is_stored_when_it_is_measured(command, tmp_path, monkeypatch):
    """A kill after the first group loses nothing of it."""
    measure, calls = BlockRun.measure, []

    def killed(self, group):
        if calls:
            raise KeyboardInterrupt
        calls.append(group)
        return measure(self, group)

    monkeypatch.setattr(BlockRun, "measure", killed)
    assert command(*PAIR, "--set", "mine", "--json", "out.json").code == 130
    assert len(list((tmp_path / "results/mine/runs").glob("*/run.json"))) == 2
    assert len(json.loads((tmp_path / "out.json").read_text())) == 2


def test_a_budget_that_ends_names_what_is_left_out(command):
    def first_of_a_kind(budget, kind):
        return kind[0] == "check" or not budget.longest.get(kind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels.Budget, "allows", first_of_a_kind)
        ended = command(*DELTA, "--budget-s", "1000", "--set", "mine")
    assert ended.code == 0, ended.err
    assert "left out, since the budget of seconds was used up: 1 group;" in ended.out
    assert "gated_delta 1,70,1,16,16 default given forward_backward eager" in ended.out
    assert "left out" not in command(*DELTA, "--set", "mine").out, "the same command goes on"


def test_a_budget_of_nothing_measures_nothing(command):
    ended = command(*DELTA, "--budget-s", "0")
    assert (ended.code, ended.out.count("default given")) == (0, 2)


def test_a_red_check_shows_no_time_and_fails(command, monkeypatch):
    run = backend.gated_delta_rule
    monkeypatch.setattr(backend, "gated_delta_rule", lambda *a, **s: (1.01 * run(*a, **s)[0], None))
    ended = command(*PAIR, "--directions", "forward", "--set", "mine")
    assert ended.code == 2
    assert "1 of 2 cases failed their correctness check" in ended.err
    (line,) = [line for line in ended.out.splitlines() if line.split()[:1] == ["reference"]]
    assert "WRONG: output 1.0e-02" in line
    rows = {row["impl"]: row for row in json.loads(command("results", "mine").out)}
    assert (rows["reference"]["correct"], rows["reference"]["ms"]) == (False, None)
    assert rows["reference"]["max_rel_error"] == pytest.approx(0.01, rel=0.05)
    assert (rows["torch"]["correct"], rows["torch"].get("peer_ratio")) == (True, None)
    assert rows["torch"]["ms"] > 0
    assert command(*PAIR, "--directions", "forward", "--set", "mine").code == 2, "and it stays red"


def test_a_backend_that_cannot_run_shows_why(command):
    ended = command(*DELTA, "--backends", "torch,flashinfer")
    assert ended.code == 0, ended.err
    assert "flashinfer" in ended.out
    assert "unavailable: " in ended.out
    alone = command(*DELTA, "--backends", "flashinfer")
    assert alone.code == 2
    assert "nothing could be timed: flashinfer: " in alone.err


def test_all_parts_run_on_a_cpu(command):
    ended = command(*TINY, "--gates", "default", "--decode", "2,1,16,16", "--repeats", "1", "--directions", "forward")
    assert ended.code == 0, ended.err
    alone = ("gated_delta ", "gated_delta_step", "attention", "ssd", "wkv7", "kda", "gated_delta_negative")
    for op in (*alone, "short_convolution", "gated_norm", "linear_cross_entropy"):
        assert f"\n{op}" in f"\n{ended.out}", op
    assert "torch gate_scale=0.7" in ended.out
    assert "torch raw gates" in ended.out


def test_a_first_call_is_timed_in_a_process_of_its_own(command):
    ended = command(*DELTA, "--first-call", "--set", "mine")
    assert ended.code == 0, ended.err
    (row,) = json.loads(command("results", "mine").out)
    assert (row["timing"], row["direction"], row["how"]) == ("first_call", "forward_backward", "process")
    assert row["ms"] > row["ready_ms"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_shape_beyond_memory_is_one_clear_line(command):
    ended = command("bench", "kernels", "--device", "cpu", "--shapes", "1,99999999999,1,16,16", "--parts", "delta")
    assert ended.code == 2
    assert ended.err.splitlines()[-1].endswith("out of memory; smaller --shapes take less")
    assert "Traceback" not in ended.err


def test_without_a_gpu_cuda_is_one_clear_line(command):
    ended = command("bench", "kernels")
    assert ended.code == 2
    assert "device cuda was asked for, but no usable NVIDIA GPU was found" in ended.err


def test_a_set_of_runs_takes_no_kernels(command, tmp_path):
    (tmp_path / "results/quick/presets").mkdir(parents=True)
    ended = command(*DELTA, "--set", "quick")
    assert ended.code == 2
    assert "--set quick" in ended.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--backends", "tritn"), "unknown backend 'tritn'; did you mean triton"),
        (("--shapes", "8,16"), "shape '8,16': expected B,T,H,K,V"),
        (("--timing", "device"), "--timing device: a CPU has no device time"),
        (("--peer", "fla"), "--peer fla"),
        (("--device", "tpu"), "tpu"),
    ],
)
def test_a_mistake_is_one_line(command, options, said):
    ended = command(*DELTA, *options)
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def test_a_peers_time_belongs_to_the_record_only_with_that_peer(command):
    """A stored time whose ratio is to another peer does not answer the question."""
    assert command(*PAIR, "--set", "mine").code == 0
    other = command(*DELTA, "--backends", "torch,reference", "--peer", "torch", "--set", "mine")
    assert "groups to measure" in other.err
