"""Steps on an NVIDIA GPU: compiled, computed again and captured in a graph, they train as single launches do."""

import itertools
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from gdnbench.models import ModelConfig, Parametrization
from gdnbench.plan.spec import Data, Evaluation, Execution, Optimizer, RunSpec, Schedule, Training
from gdnbench.results import Store
from gdnbench.runs.execute import execute, load_corpus
from gdnbench.runs.progress import Interrupted, Observer
from gdnbench.runs.train import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"),
]

OWN = ("gated_delta", "short_convolution", "gated_norm", "add_norm", "ssd", "linear_cross_entropy")
BACKEND = {**dict.fromkeys(OWN, "triton"), "attention": "cudnn"}
OPTIONS = {"gdn": {"heads": 4}, "mamba2": {"state_dim": 64, "head_dim": 64}, "transformer": {"heads": 4}}
WAYS = {
    "graph": Execution(graph=True),
    "recomputed": Execution(recompute="cheap"),
    "all": Execution(compile=True, graph=True, recompute="cheap"),
}
STEPS = 30


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("books")
    for split in ("train", "valid"):
        (folder / f"{split}.txt").write_text("the quick brown fox jumps over the lazy dog. " * 2000, encoding="utf-8")
    return f"text:{folder}"


def spec(corpus: str, arch: str = "gdn", **changes) -> RunSpec:
    values = {
        "experiment": "gpu",
        "arm": arch,
        "model": ModelConfig(
            arch=arch, width=128, base_width=128, options={arch: OPTIONS[arch]}, init_std=0.04, embedding_std=0.1,
            backend=BACKEND,
        ),
        "parametrization": Parametrization(table="mup_derived"),
        "data": Data(corpus=corpus),
        "optimizer": Optimizer(lr=2**-8),
        "schedule": Schedule(warmup_steps=5),
        "training": Training(steps=STEPS, batch_size=8, seq_len=128, checkpoint_every=10, log_every=1),
        "evaluation": Evaluation(sequences=16),
        "device": "cuda",
        "dtype": "bfloat16",
    }  # fmt: skip
    return RunSpec(**{**values, **changes})


def losses(corpus: str, *, steps: int = STEPS, **changes) -> list[float]:
    chosen = spec(corpus, **changes)
    trainer = Trainer(chosen, load_corpus(chosen.data.corpus, chosen.data.tokenizer, ("valid",)))
    for _ in range(steps):
        trainer.advance()
    return list(trainer.losses)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("arch", OPTIONS)
def test_the_way_of_a_step_changes_no_curve(corpus: str, arch: str, way: str):
    plain, other = losses(corpus, arch=arch), losses(corpus, arch=arch, execution=WAYS[way])
    assert plain[-1] < 0.7 * plain[0]
    # Compiled code rounds to 8 bits at other places, and what is nearly learned by heart (a loss below 0.2) shows it
    # most; cuDNN's gradients of attention differ in their last digits.
    compiled = WAYS[way].compile
    assert other == pytest.approx(plain, rel=2e-2 if compiled else 1e-3, abs=0.1 if compiled else 2e-2)


def test_sgd_in_a_graph(corpus: str):
    optimizer = Optimizer(name="sgd", lr=2**-4)
    plain, graph = (losses(corpus, optimizer=optimizer, execution=Execution(graph=g)) for g in (False, True))
    assert graph == pytest.approx(plain, rel=1e-3)


def test_a_graph_repeats_itself_to_the_bit(corpus: str):
    first, second = (losses(corpus, execution=WAYS["all"]) for _ in "ab")
    assert first == second


def test_capturing_trains_nothing_and_no_step_is_lost(corpus: str):
    """The step that is captured, those before it and those after see the batches of their places."""
    whole = losses(corpus, execution=Execution(graph=True))
    for steps in (3, 4, 5):
        assert losses(corpus, steps=steps, execution=Execution(graph=True)) == pytest.approx(whole[:steps], rel=1e-3)


def test_rates_of_a_graph_follow_the_schedule(corpus: str):
    """With a rate of 0 after some steps, weights stay where they are."""
    chosen = spec(corpus, execution=Execution(graph=True))
    trainer = Trainer(chosen, load_corpus(chosen.data.corpus, chosen.data.tokenizer, ("valid",)))
    for _ in range(8):
        trainer.advance()
    trainer._factors.zero_()
    before = [p.clone() for p in trainer.model.parameters()]
    trainer.advance()
    assert all(torch.equal(old, new) for old, new in zip(before, trainer.model.parameters(), strict=True))


def test_one_form_for_all_layers_rates_and_seeds(corpus: str):
    torch._dynamo.reset()
    counters.clear()
    model = ModelConfig(
        arch="gdn", width=128, base_width=128, depth=4, options={"gdn": {"heads": 4}}, embedding_std=0.1,
        backend=BACKEND,
    )  # fmt: skip
    for seed, lr in itertools.product((0, 1), (2**-8, 2**-9)):
        losses(corpus, steps=6, model=model, seed=seed, optimizer=Optimizer(lr=lr), execution=WAYS["all"])
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_a_run_in_a_graph_that_is_stopped_goes_on_to_the_same_curve(tmp_path: Path, corpus: str):
    run = spec(corpus, execution=WAYS["all"])
    whole, parts, calls = Store(tmp_path, "whole"), Store(tmp_path, "parts"), iter(range(10_000))
    execute(run, whole, Observer())
    with pytest.raises(Interrupted):
        execute(run, parts, Observer(stop=lambda: next(calls) > 16))
    record = execute(run, parts, Observer())
    assert record is not None
    assert record.environment["execution"] == {**record.spec["execution"]}
    curves = [[row["loss"] for row in store.rows(run.run_id) if row["type"] == "train"] for store in (whole, parts)]
    assert len(curves[0]) == STEPS
    assert curves[1] == pytest.approx(curves[0], rel=1e-3, abs=1e-3)


def test_little_is_kept_and_the_graph_holds_no_second_copy(corpus: str):
    def peak(execution: Execution) -> tuple[int, int]:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        training = Training(steps=STEPS, batch_size=32, seq_len=512)
        losses(corpus, steps=6, training=training, execution=execution)
        return torch.cuda.max_memory_allocated() - before, torch.cuda.max_memory_reserved()

    kept, _ = peak(Execution(compile=True))
    again, without_graph = peak(Execution(compile=True, recompute="cheap"))
    graph, reserved = peak(WAYS["all"])
    assert again < 0.95 * kept
    assert graph < 1.1 * again
    assert reserved < 1.5 * without_graph
