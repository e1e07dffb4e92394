"""Losses stay where they are computed until they are asked for, and none is lost or moved on the way."""

import math

import pytest
import torch

from gdnbench.runs import curve
from gdnbench.runs.curve import Curve
from gdnbench.runs.execute import load_corpus
from gdnbench.runs.train import Trainer
from tests.runs.tiny import specs, sweep


def trainer(books, **changes):
    (spec,) = specs(books, sweep(), **changes)
    return Trainer(spec, load_corpus(books, "bytes", ("valid",)))


def written(count, read_after=()):
    found = Curve("cpu")
    for step in range(count):
        found.write(torch.tensor(float(step)), torch.tensor(10.0 * step))
        found.stepped()
        if step in read_after:
            found.read()
    return found


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("read_after", [(), (0, 1, 5), (3,)])
def test_a_curve_has_every_loss_in_order(monkeypatch, count, read_after):
    monkeypatch.setattr(curve, "ROOM", 4)
    found = written(count, read_after)
    found.read()
    assert found.losses == list(range(count))
    assert found.norm == 10.0 * (count - 1)


def test_nothing_is_read_before_there_is_no_more_room(monkeypatch):
    monkeypatch.setattr(curve, "ROOM", 4)
    assert written(3).losses == []
    assert written(4).losses == [0, 1, 2, 3]


def test_losses_are_numbers_of_the_training_and_not_rounded(books):
    once, again = trainer(books), trainer(books)
    by_step = []
    for _ in range(5):
        once.advance()
        again.advance()
        by_step.append(again.losses[-1])
    assert once.losses == by_step
    assert once.row()["loss"] == by_step[-1] == torch.tensor(by_step[-1]).item()


def test_the_last_loss_that_is_known_is_that_which_was_read(books):
    run = trainer(books)
    assert run.known_loss is None
    run.advance()
    first = run.losses[-1]
    run.advance()
    assert run.known_loss == first
    assert run.losses[-1] != first
    assert run.known_loss == run.losses[-1]


def test_the_step_that_diverged_first_is_named_when_it_is_found_late(books):
    run = trainer(books)
    for step in range(6):
        if step == 3:
            next(run.model.parameters()).data.fill_(math.nan)
        run.advance()
    assert run.problem() == "loss nan at step 4 (bound 20)"


def test_a_loss_is_judged_once_and_again_by_who_resumes(books):
    run = trainer(books)
    run.advance()
    next(run.model.parameters()).data.fill_(math.nan)
    run.advance()
    assert "at step 2" in run.problem()
    assert run.problem() is None
    run.advance()
    assert "at step 3" in run.problem()
    other = trainer(books)
    other.restore(run.state())
    assert "at step 2" in other.problem()
