"""Runs on tasks: their metrics, their masks in training, and that an interrupted one ends as if it had not been."""

import dataclasses

import pytest
import torch

from gdnbench.errors import GdnbenchError
from gdnbench.evaluate.answers import answer
from gdnbench.results import Store
from gdnbench.runs.execute import corpus_of, execute
from gdnbench.runs.progress import Interrupted, Observer
from gdnbench.runs.texts import check_content, check_epochs
from gdnbench.runs.train import Trainer
from gdnbench.runs.trained import tokenizer_of
from tests.runs.tiny import numbers, specs, sweep

RECALL = {"kind": "task", "corpus": "task:mqar", "task": {"pairs": [1, 4], "vocabulary": 32}}
PARITY = {"kind": "task", "corpus": "task:parity", "evaluation": {"lengths": [16, 48]}}


def run_of(experiment, **changes):
    (spec,) = specs("stdlib", sweep(**experiment), **changes)
    return spec


def after(steps):
    calls = iter(range(steps + 1))
    return lambda: next(calls) == steps


def test_a_recall_run_has_an_accuracy_for_each_number_of_pairs(tmp_path, monkeypatch):
    """And a set may hold a task with several options, but not with several meanings."""
    spec, second = run_of(RECALL), run_of({**RECALL, "task": {"pairs": [2], "vocabulary": 32}})
    store = Store(tmp_path, "s")
    record, other = (execute(each, store, Observer()) for each in (spec, second))
    assert record.data["corpus"] == "task:mqar"
    assert record.data["corpus_hash"] == corpus_of(spec.data, ()).corpus_hash
    assert set(record.data["test_sequences"]) == {"accuracy_pairs_1", "accuracy_pairs_4"}
    assert spec.model.vocab_size == 32
    names = ("val_loss", "test_loss", "accuracy", "val_accuracy", "accuracy_pairs_1", "accuracy_pairs_4")
    assert all(record.metric(name) is not None for name in names)
    assert record.metrics["accuracy"]["unit"] == "right/answer"
    with pytest.raises(GdnbenchError, match="trained on task:mqar, whose tokens stand for no text"):
        tokenizer_of(record, None)
    check_content([spec, second], [record, other], store)
    check_epochs([spec, second], 1.0)
    monkeypatch.setattr("gdnbench.data.tasks.stream.FORMAT_VERSION", 2)
    with pytest.raises(GdnbenchError, match="1 of its runs were made on another content of corpus task:mqar"):
        check_content([spec, second], [record, other], store)


def test_an_interrupted_run_ends_as_if_it_had_not_been_and_has_an_accuracy_at_each_length(tmp_path):
    spec = run_of(PARITY)
    whole, parts = Store(tmp_path, "whole"), Store(tmp_path, "parts")
    record = execute(spec, whole, Observer())
    with pytest.raises(Interrupted):
        execute(spec, parts, Observer(stop=after(7)))
    execute(spec, parts, Observer())
    assert numbers(whole, spec.run_id) == numbers(parts, spec.run_id)
    assert {name for name in record.metrics if name.startswith("accuracy_at_")} == {"accuracy_at_16", "accuracy_at_48"}


def test_the_loss_is_that_of_the_answers_alone():
    spec = run_of(RECALL)
    corpus = corpus_of(spec.data, ())
    trainer = Trainer(spec, corpus)
    task, sizes = corpus.task, spec.training
    tokens, targets = trainer.sampler.parts(trainer.sampler.batch(0))
    with torch.no_grad():
        log = trainer.model(tokens)[0].log_softmax(-1)
        expected = [-log[row, place, targets[row, place]] for row, place in (targets != -100).nonzero().tolist()]
    assert len(expected) == 5
    trainer.advance()
    assert trainer.losses[0] == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)
    got = answer(trainer.model, task.held_out("valid", 6, sizes.seq_len), batch_tokens=64)
    assert got.asked == 15


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_passes_of_unequal_answers_train_as_the_whole_batch(micro_batch):
    """Rows ask 1 and 4 times in turn, so that passes count by their answers and not by their rows."""
    spec = run_of(RECALL, training={"batch_size": 4}, execution={"micro_batch": micro_batch})
    whole = dataclasses.replace(spec, execution=dataclasses.replace(spec.execution, micro_batch=None))
    losses = []
    for chosen in (spec, whole):
        trainer = Trainer(dataclasses.replace(chosen, dtype="float64"), corpus_of(chosen.data, ()))
        for _ in range(4):
            trainer.advance()
        losses.append(trainer.losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_a_text_has_its_loss_by_position_at_longer_lengths(books, tmp_path):
    (spec,) = specs(books, sweep(evaluation={"lengths": [16, 32, 64], "sequences": 8, "splits": ["valid", "test"]}))
    store = Store(tmp_path, "s")
    record = execute(spec, store, Observer())
    rows = [row for row in store.rows(spec.run_id) if row["type"] == "position"]
    assert (rows[0]["first"], rows[-1]["last"]) == (1, 64)
    assert {row["split"] for row in rows} == {"test"}
    inside = [row for row in rows if row["last"] <= 16]
    mean = sum(row["loss"] * row["tokens"] for row in inside) / sum(row["tokens"] for row in inside)
    assert record.metric("loss_at_16") == pytest.approx(mean)
    # Two windows of 64, each cut into four of 16 and two of 32.
    assert [sum(row["tokens"] for row in rows if low < row["last"] <= 2 * low) for low in (16, 32)] == [64, 64]
    assert sum(row["tokens"] for row in inside) == 128
    assert all(record.metric(f"loss_at_{length}") > 0 for length in (16, 32, 64))
