"""Whole models of two trees timed in turn: each process runs its own tree, a slower one is found, refusals say why."""

import shutil
from pathlib import Path

import pytest

from gdnbench.errors import GdnbenchError
from gdnbench.measure.regression import check, interleaved
from gdnbench.measure.regression.model_cases import ModelCase, model_cases
from gdnbench.measure.regression.trees import baseline_tree, this_tree
from gdnbench.measure.regression.workers import workers

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ModelCase(
    part="training", arch="gdn", size="small", width=48, depth=1, vocab_size=64, batch=1, length=8, device="cpu"
)
DECODE = ModelCase(part="decode", arch="gdn", size="miniature", batch=1, length=4, tokens=2, device="cpu")

# Many times what a step and a few tokens take, so that no busy machine hides it.
SLOW = """
import time as _time
_advance = {name}.advance
def advance(self, *arguments, **settings):
    _time.sleep(0.25)
    return _advance(self, *arguments, **settings)
{name}.advance = advance
"""


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """A copy of this tree whose trainer and engine wait."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for folder in ("gdnbench", "kernels", "baselines"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path, name in (("runs/train.py", "Trainer"), ("inference/engine.py", "Engine")):
        with (tmp_path / "gdnbench" / path).open("a", encoding="utf-8") as file:
            file.write(SLOW.format(name=name))
    return tmp_path


def test_a_slower_step_and_slower_generation_are_found(slow):
    unknown = ModelCase(part="training", arch="gnd", size="small", batch=1, length=8, device="cpu")
    with baseline_tree(None, slow) as other, workers(this_tree(), other, kind="model") as (fast, late):
        found = interleaved.compare(fast, late, [TRAINING, DECODE, unknown], 1.0, rounds=5)
    training, decode, refused = found
    assert training.verdict == decode.verdict == "slower"
    assert training.this_ms > 250
    assert decode.this_ms > 250 / (DECODE.tokens + 1)
    assert refused.verdict == "not measured"
    assert "unknown architecture 'gnd'; did you mean gdn" in refused.reason
    head, *_ = interleaved.lines(found)
    assert "baseline tokens/s" in head


def test_a_tree_without_the_package_is_said_to_be_one(slow, monkeypatch):
    shutil.rmtree(slow / "gdnbench")
    monkeypatch.chdir(slow)
    with (
        pytest.raises(GdnbenchError, match=f"{slow}: (wanted the models in|ModuleNotFoundError)"),
        baseline_tree(None, slow) as other,
        workers(other, kind="model"),
    ):
        pass


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_cases_of_a_device_are_those_of_its_parts(device):
    both = model_cases(device, check.PARTS)
    assert {case.part for case in both} == {"training", "decode"}
    assert {case.part for case in model_cases(device, ["decode"])} == {"decode"}
    assert not model_cases(device, ["kernels"])
    assert all(case.device == device for case in both)
    if device == "cuda":
        assert {case.size for case in both if case.part == "training"} == {"small", "125m"}
        assert all(case.batch == 1 for case in both if case.part == "decode")


def test_tokens_per_second_are_shown():
    assert TRAINING.shown(2.0) == "4,000"
    assert DECODE.shown(2.0) == "500"


def test_a_part_that_is_not_there():
    with pytest.raises(GdnbenchError, match="unknown part 'train'; did you mean training"):
        check.timings(
            baseline=None, path=None, threshold=0.03, shapes=[], device="cpu", backend=None, rounds=5,
            progress=lambda line: None, parts=["train"],
        )  # fmt: skip
