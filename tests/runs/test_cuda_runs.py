"""Runs on an NVIDIA GPU: every architecture trains, a resumed run goes on, generation and coordinate checks work."""

import json
import math
from pathlib import Path

import pytest
import torch

from gdnbench.models import ModelConfig, Parametrization, registry
from gdnbench.plan.spec import Coordinates, Data, Decode, Evaluation, Execution, Optimizer, RunSpec, Schedule, Training
from gdnbench.results import Store
from gdnbench.runs.execute import execute
from gdnbench.runs.progress import Interrupted, Observer
from gdnbench.runs.worker import Settings, _run
from tests.runs.tiny import Pipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"),
]

OPTIONS = {"gdn": {"heads": 4}, "mamba2": {"state_dim": 16, "head_dim": 32}}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("books")
    for split in ("train", "valid"):
        (folder / f"{split}.txt").write_text("the quick brown fox jumps over the lazy dog. " * 2000, encoding="utf-8")
    return f"text:{folder}"


def spec(corpus: str, arch: str, **changes) -> RunSpec:
    options = {arch: OPTIONS[arch]} if arch in OPTIONS else {}
    values = {
        "experiment": "gpu",
        "arm": arch,
        "model": ModelConfig(arch=arch, width=128, options=options, init_std=0.04, embedding_std=0.1),
        "parametrization": Parametrization(table="mup_derived"),
        "data": Data(corpus=corpus),
        "optimizer": Optimizer(lr=2**-7),
        "schedule": Schedule(warmup_steps=5),
        "training": Training(steps=40, batch_size=8, seq_len=64, checkpoint_every=10, log_every=5),
        "evaluation": Evaluation(sequences=16),
        "device": "cuda",
    }
    return RunSpec(**{**values, **changes})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("arch", registry.names())
def test_an_architecture_learns_on_the_gpu(tmp_path: Path, corpus: str, arch: str, dtype: str):
    record = execute(spec(corpus, arch, dtype=dtype), Store(tmp_path, "gpu"), Observer())
    assert record is not None
    assert record.outcome == "finished"
    loss, peak = record.metric("val_loss"), record.metric("peak_gib")
    assert loss is not None
    assert loss < 0.6 * math.log(256)
    assert peak is not None
    assert 0 < peak < 8
    assert "NVIDIA" in record.environment["device"]
    assert record.environment["driver"]


def test_a_stopped_run_goes_on_to_the_same_curve(tmp_path: Path, corpus: str):
    whole = Store(tmp_path, "whole")
    execute(spec(corpus, "gdn"), whole, Observer())
    parts, calls = Store(tmp_path, "parts"), iter(range(10_000))
    with pytest.raises(Interrupted):
        execute(spec(corpus, "gdn"), parts, Observer(stop=lambda: next(calls) > 22))
    record = execute(spec(corpus, "gdn"), parts, Observer())
    assert record is not None
    assert any("resumed at step 23" in note for note in record.notes)
    losses = [[row["loss"] for row in store.rows(record.run_id)] for store in (whole, parts)]
    # Sums on a GPU may be taken in another order: the same curve within rounding that 40 steps amplify.
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_runs_of_one_process_measure_their_own_memory(tmp_path: Path, corpus: str):
    store, pipe, peaks = Store(tmp_path, "gpu"), Pipe(), []
    graphed = Execution(graph=True)
    for seed in range(3):
        run = spec(corpus, "gdn", seed=seed, execution=graphed, training=Training(steps=10, batch_size=32, seq_len=512))
        assert _run(pipe, Settings(root=tmp_path, set="gpu"), run, {})
        assert pipe.said[-1] == ("done", run.run_id)
        (peak,) = {record.metric("peak_gib") for record in store.records() if record.run_id == run.run_id}
        peaks.append(peak)
        assert torch.cuda.memory_reserved() < 256 * 2**20, "what is left is the libraries' own"
    assert peaks == pytest.approx([peaks[0]] * 3, rel=0.02)


@pytest.mark.parametrize("arch", registry.names())
def test_generation_and_coordinate_checks_run_on_the_gpu(tmp_path: Path, corpus: str, arch: str):
    store = Store(tmp_path, "gpu")
    decode = execute(spec(corpus, arch, training=None, decode=Decode(context=256, tokens=16)), store, Observer())
    assert decode is not None
    assert (decode.metric("tokens_per_s") or 0) > 0
    check = execute(spec(corpus, arch, training=None, coordinates=Coordinates()), store, Observer())
    assert check is not None
    sites = {json.dumps([row["site"], row["after_steps"]]) for row in store.rows(check.run_id)}
    assert json.dumps(["logits", 4]) in sites
