"""`gdnbench bench ... --plan`: what is stored and left, without a GPU; what a bench leaves in its set at its end."""

import json

import pytest

from gdnbench.configuration import to_mapping
from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.measure.process import Answer
from gdnbench.measure.training import grid
from gdnbench.runs import training
from tests.bench.planted_training import Planter
from tests.runs.tiny import gdnbench

SIZES = {"width": 24, "depth": 1, "vocab_size": 64, "batch": 2, "seq_len": 16, "steps": 3}
ARCHS = ("gdn", "transformer")
PAIR = (
    "bench", "train", "--device", "cpu", "--width", "24", "--depth", "1", "--vocab", "64", "--batch", "2",
    "--seq-len", "16", "--steps", "3", "--arch", ",".join(ARCHS), "--impl", "gdnbench", "--set", "mine",
)  # fmt: skip


@pytest.fixture
def bench(command, tmp_path, monkeypatch):
    """A bench whose own grid is tiny, and whose processes say planted times at once."""
    own = tuple(grid.cases(device="cpu", archs=ARCHS, impls=["gdnbench"], **SIZES))
    said = {"measured": to_mapping(Planter(tmp_path).stepped(own[0]))}

    monkeypatch.setattr(training, "calibrate", lambda device: Calibration(copy_gb_s=10.0, matmul_tflop_s=0.1))
    monkeypatch.setattr(training, "_own_grid", lambda device: own)
    monkeypatch.setattr(training, "ask", lambda *asked, **how: Answer(started=0.0, value=said))
    return lambda *options: command(*PAIR, *options)


def left(root):
    path = root / "results/mine/train_throughput.left.json"
    return {(row["model"], row["impl"]): row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}


def test_a_process_without_a_gpu_looks_ahead(tmp_path):
    command = ("bench", "kernels", "--set", "mine", "--budget-s", "540")
    done = gdnbench(*command, "--plan", cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stderr) == (0, "")
    content = json.loads((tmp_path / "results/mine/kernel.left.json").read_text(encoding="utf-8"))
    count = sum(row["measurements"] for row in content["rows"])
    assert (content["device"], content["stored"], content["again"]) == ("cuda", 0, 0)
    assert content["command"] == "gdnbench bench kernels --set mine"
    lines = done.stdout.splitlines()
    assert f"{count} measurements on cuda; 0 stored, {count} left" in lines
    assert lines[-1] == f"go on with: gdnbench {' '.join(command)}"
    assert max(map(len, lines)) <= 100
    assert [path.name for path in (tmp_path / "results/mine").iterdir()] == ["kernel.left.json"], "nothing is measured"


def test_generation_looks_ahead_over_sizes(command, tmp_path):
    ended = command("bench", "decode", "--plan", "--set", "mine", "--arch", "gdn", "--batches", "1,2")
    assert ended.code == 0, ended.err
    content = json.loads((tmp_path / "results/mine/decode.left.json").read_text(encoding="utf-8"))
    models = {row["model"] for row in content["rows"]}
    assert {"gdn (controlled) 1.3b", "gdn (controlled) 125m", "hybrid (controlled) 125m"} <= models
    assert "gdn (controlled) 1.3b" in ended.out and "hybrid" not in ended.out, "what is asked for"


def test_a_bench_leaves_what_is_left_at_its_end_and_at_that_of_its_budget(bench, tmp_path, monkeypatch):
    assert bench("--plan").code == 0
    assert list(left(tmp_path)) == [("gdn (controlled)", "gdnbench"), ("transformer (controlled)", "gdnbench")]
    with monkeypatch.context() as patch:
        patch.setattr(training.Budget, "allows", lambda budget, kind: not budget.longest)
        assert bench("--budget-s", "1000").code == 0
    ((where, row),) = left(tmp_path).items()
    assert where == ("transformer (controlled)", "gdnbench") and row["measurements"] == 1
    assert row["seconds"] is not None, "as gdn took"
    ahead = bench("--plan")
    assert "2 measurements on cpu; 1 stored, 1 left" in ahead.out and "1 of those left" in ahead.out
    assert bench().code == 0
    assert left(tmp_path) == {}
    done = bench("--plan").out
    assert "2 stored, 0 left" in done and "go on" not in done


def test_a_killed_bench_leaves_the_older_file(bench, tmp_path, monkeypatch):
    assert bench("--plan").code == 0
    path = tmp_path / "results/mine/train_throughput.left.json"
    before = path.read_bytes()

    def killed(*given, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "ask", killed)
        assert bench().code == 130
    assert path.read_bytes() == before
    with monkeypatch.context() as patch:
        patch.setattr("gdnbench.files.os.fsync", killed)  # on the way of the file itself
        assert bench("--plan").code == 130
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir() if file.is_file()] == [path.name], "and nothing half-written"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--plan", "--again"), "--plan measures nothing: it goes without --again and --json"),
        (("--plan", "--json", "out.json"), "--plan measures nothing: it goes without --again and --json"),
        (("--plan", "--device", "tpu"), "unknown device 'tpu'; known: cpu, cuda"),
        (("--plan", "--device", "cpu", "--profile"), "--profile: the parts of a step are told by its GPU kernels"),
    ],
)
def test_a_mistake_is_one_line(command, options, said):
    ended = command("bench", "train", *options)
    assert (ended.code, len(ended.err.strip().splitlines())) == (2, 1)
    assert said in ended.err


def test_a_set_of_runs_is_not_written_to(command, tmp_path):
    (tmp_path / "results/quick/presets").mkdir(parents=True)
    ended = command("bench", "train", "--plan", "--set", "quick")
    assert ended.code == 2 and "training speeds need a set of their own" in ended.err
    assert not list((tmp_path / "results/quick").glob("*.json"))
