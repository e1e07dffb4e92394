"""A run that diverges is a result: it is stored with its reason, and a plan goes on from it."""

import math

from gdnbench.results import Store
from gdnbench.runs.execute import execute
from gdnbench.runs.progress import Observer
from gdnbench.runs.reproduce import loss_of
from tests.runs.tiny import specs, sweep

# Without warm-up, clipping and momentum one step of this size overflows.
WILD = {
    "optimizer": {"name": "sgd", "momentum": 0.0, "clip": 0.0},
    "schedule": {"kind": "constant", "warmup_steps": 0},
}


def run(tmp_path, books, *experiments, **changes):
    (spec,) = specs(books, *experiments, **changes)
    store = Store(tmp_path, "s")
    execute(spec, store, Observer())
    return store, store.read(spec.run_id)


def test_a_loss_above_the_bound(tmp_path, books):
    store, record = run(tmp_path, books, sweep(log2_lrs=[7]), training={"max_loss": 1.0, "log_every": 1}, **WILD)
    assert record.outcome == "diverged"
    first, *_, last = store.rows(record.run_id)
    bound = 2 * first["loss"]
    assert last["loss"] > bound > 1.0
    assert record.detail == f"loss {last['loss']:.4g} at step {last['step']} (bound {bound:.3g})"
    assert record.metric("val_loss") is None
    assert loss_of(record) == math.inf
    assert record.metric("train_tokens") == 32 * last["step"]


def test_a_bad_start_has_not_diverged(tmp_path, books):
    """Tied embeddings can begin far above the bound, and come down."""
    _, record = run(tmp_path, books, training={"max_loss": 1.0})
    assert record.outcome == "finished"
    assert record.metric("val_loss") > 1.0


def test_a_loss_that_is_no_number(tmp_path, books):
    store, record = run(tmp_path, books, sweep(log2_lrs=[126]), **WILD)
    assert record.outcome == "diverged"
    assert "nan" in record.detail or "inf" in record.detail
    assert loss_of(record) == math.inf
    last = store.rows(record.run_id)[-1]
    assert "loss" not in last, "JSON has no NaN"
    assert last["step"] <= 12


def test_a_checkpoint_of_a_diverged_run_is_not_left(tmp_path, books):
    store, record = run(tmp_path, books, sweep(log2_lrs=[7]), training={"max_loss": 1.0, "checkpoint_every": 1}, **WILD)
    assert record.outcome == "diverged"
    assert not store.checkpoint_path(record.run_id).exists()


def test_weights_that_overflow_with_the_last_step(tmp_path, books, monkeypatch):
    """Every training loss is a number, the validation loss is none."""
    from gdnbench.runs.train import Trainer

    advance = Trainer.advance

    def spoiled(trainer):
        advance(trainer)
        if trainer.fraction >= 1.0:
            next(trainer.model.parameters()).data.fill_(math.nan)

    monkeypatch.setattr(Trainer, "advance", spoiled)
    _, record = run(tmp_path, books)
    assert record is not None, "a crash instead of an outcome"
    assert record.outcome == "diverged"
    assert loss_of(record) == math.inf


def test_a_text_without_white_space_has_no_finite_word_perplexity(tmp_path):
    folder = tmp_path / "characters"
    folder.mkdir()
    for split in ("train", "valid"):
        (folder / f"{split}.txt").write_text("甲乙丙丁戊己庚辛" * 400, encoding="utf-8")
    _, record = run(tmp_path, f"text:{folder}", training={"seq_len": 256}, evaluation={"sequences": 4})
    assert record.outcome == "finished"
    assert math.isfinite(record.metric("val_loss"))
    assert record.metric("whitespace_word_ppl") is None


def test_a_coordinate_check_that_overflows(tmp_path, books):
    check = {"name": "c", "kind": "coord_check", "widths": [16], "arms": [{"name": "G", "arch": "gdn"}]}
    _, record = run(tmp_path, books, check, optimizer={"lr": 1e30, "name": "sgd", "momentum": 0.0})
    assert record.outcome == "diverged"
    assert record.detail
