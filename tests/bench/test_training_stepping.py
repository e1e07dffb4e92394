"""How a step is measured: it must train before it is timed; random tokens that can be learnt; what is timed."""

import math

import numpy as np
import pytest

from gdnbench.measure.training import stepping, text
from gdnbench.measure.training.stepping import MARGIN, UNTIMED, measure


class Planted:
    """A trainer whose losses are given."""

    params_total, params_non_embedding = 10, 4

    def __init__(self, *losses):
        self.losses, self.steps = losses, 0

    def step(self):
        self.steps += 1

    def loss(self):
        return self.losses[min(self.steps, len(self.losses)) - 1]

    def what_ran(self):
        return {"planted": "yes"}


def test_a_step_that_trains_is_timed():
    trainer = Planted(10.0, *[9.0] * 40)
    found = measure(trainer, 5, "cpu")
    assert trainer.steps == UNTIMED + 5
    assert (found.trains, found.first_loss, found.gate_loss, len(found.step_ms)) == (True, 10.0, 9.0, 5)
    assert found.seconds >= sum(found.step_ms) / 1e3 * (1 - 1e-6), "the machine may pause between two steps"
    assert found.peak_gib > 0
    assert found.untimed_s >= found.first_step_s
    assert (found.params_total, found.params_non_embedding, found.what_ran) == (10, 4, {"planted": "yes"})


@pytest.mark.parametrize("loss", [10.0, 10.5, 10.0 - 0.9 * MARGIN, math.nan, math.inf])
def test_a_step_that_does_not_train_is_not_timed(loss):
    trainer = Planted(10.0, *[loss] * 40)
    found = measure(trainer, 5, "cpu", profile=True)
    assert not found.trains
    assert (found.step_ms, found.kernels, trainer.steps) == ((), (), UNTIMED)
    assert found.gate_loss is None or math.isfinite(found.gate_loss)


def test_memory_alone_takes_two_steps():
    trainer = Planted(10.0, 9.0)
    found = measure(trainer, 0, "cpu")
    assert (trainer.steps, found.step_ms) == (2, ())
    assert found.peak_gib > 0


def test_a_profile_comes_after_the_timed_steps(monkeypatch):
    trainer, seen = Planted(10.0, *[9.0] * 40), []
    monkeypatch.setattr(stepping, "profiled", lambda step: seen.append(trainer.steps) or ())
    measure(trainer, 3, "cpu", profile=True)
    assert seen == [UNTIMED + 3]


def test_tokens_are_the_same_for_all_and_as_frequent_as_words():
    found = text.tokens(1000, batch=4, seq_len=5000, seed=1)
    assert np.array_equal(found, text.tokens(1000, batch=4, seq_len=5000, seed=1))
    assert not np.array_equal(found, text.tokens(1000, batch=4, seq_len=5000, seed=2))
    assert found.max() < 1000
    counts = np.bincount(found, minlength=1000)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.25)


def test_every_batch_is_the_whole_text_cut_elsewhere():
    batches = text.sampler(50, batch=3, seq_len=16, seed=0)
    assert batches.windows_per_epoch == 3
    first, second = batches.batch(0), batches.batch(1)
    assert first.shape == (3, 17)
    assert not first.equal(second)
