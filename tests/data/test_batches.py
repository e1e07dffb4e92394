"""Batches: a pure function of seed and step, each window of an epoch exactly once."""

import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gdnbench.data import BatchSampler
from gdnbench.data.batches import Feed
from gdnbench.errors import GdnbenchError


def sampler(length: int = 1000, batch_size: int = 4, seq_len: int = 10, seed: int = 0) -> BatchSampler:
    return BatchSampler(np.arange(length, dtype=np.uint16), batch_size=batch_size, seq_len=seq_len, seed=seed)


def test_same_seed_and_step_same_batch_whatever_came_before():
    first, second = sampler(), sampler()
    in_order = [first.batch(step) for step in range(60)]
    for step in (59, 0, 31, 24, 25):
        assert torch.equal(second.batch(step), in_order[step])
    assert not torch.equal(sampler(seed=1).batch(0), in_order[0])


def test_shape_type_and_the_shift_between_inputs_and_targets():
    batch = sampler().batch(3)
    assert (batch.shape, batch.dtype) == ((4, 11), torch.int64)
    assert torch.equal(batch[:, 1:], batch[:, :-1] + 1)


@given(st.integers(2, 300), st.integers(1, 20), st.integers(1, 7), st.integers(0, 99), st.integers(0, 3))
def test_an_epoch_covers_each_window_exactly_once(length: int, seq_len: int, batch_size: int, seed: int, epoch: int):
    if length < seq_len + 1:
        return
    batches = sampler(length, batch_size, seq_len, seed)
    windows = batches.windows_per_epoch
    begin = epoch * windows
    steps = range(begin // batch_size, (begin + windows - 1) // batch_size + 1)
    rows = torch.cat([batches.batch(step) for step in steps])[begin % batch_size :][:windows]
    starts = np.sort(rows[:, 0].numpy())
    assert len(starts) == windows
    assert (np.diff(starts) == seq_len).all()
    assert 0 <= starts[0] < seq_len or windows == 1
    assert int(rows.max()) < length
    # At most two windows' worth of the split is left out of an epoch.
    assert windows * seq_len > length - 1 - 2 * seq_len


def test_epochs_differ_in_order_and_offset():
    batches = sampler(length=100_000, seq_len=64, batch_size=1)
    per_epoch = batches.windows_per_epoch
    firsts = [[int(batches.batch(epoch * per_epoch + step)[0, 0]) for step in range(20)] for epoch in range(6)]
    assert len({tuple(row) for row in firsts}) == 6
    assert len({row[0] % 64 for row in firsts}) > 3


def test_a_batch_may_cross_an_epoch():
    batches = sampler(length=60, batch_size=4, seq_len=10)
    assert batches.windows_per_epoch == 5
    assert batches.epochs(5) == pytest.approx(4.0)
    first_epoch = torch.cat([batches.batch(0), batches.batch(1)[:1]])
    assert len(set(first_epoch[:, 0].tolist())) == 5


def test_the_stream_never_changes():
    # Pinned: a different value would give every stored run other data than its record says.
    assert sampler().batch(0)[:, 0].tolist() == [101, 911, 21, 191]


def test_exactly_one_sequence_is_enough():
    assert sampler(length=11).batch(5).tolist() == [list(range(11))] * 4


@pytest.mark.parametrize("length", [0, 10])
def test_a_split_smaller_than_one_sequence_names_both_sizes(length: int):
    with pytest.raises(GdnbenchError, match=f"{length} tokens, but one sequence of seq_len 10 needs 11"):
        sampler(length=length)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"seq_len": 0}, {"seed": -1}])
def test_sizes_that_make_no_sense(wrong: dict[str, int]):
    with pytest.raises(GdnbenchError, match="sizes start at 1"):
        sampler(**wrong)
    with pytest.raises(GdnbenchError, match="steps count from 0"):
        sampler().batch(-1)


def test_a_feed_has_the_samplers_batches_whatever_is_asked_for_next():
    same, feed = sampler(), Feed(sampler(), "cpu")
    # One after another, across an epoch; again; back, as a resumed run; and ahead.
    for step in (0, 1, 2, *range(20, 30), 29, 0, 1, 40):
        feed.load(step)
        assert torch.equal(feed.batch, same.batch(step)), step


def test_a_feed_makes_the_next_batch_ahead():
    class Counting(BatchSampler):
        def batch(self, step):
            made.append((step, threading.current_thread() is threading.main_thread()))
            return super().batch(step)

    made = []
    feed = Feed(Counting(np.arange(1000), batch_size=4, seq_len=10, seed=0), "cpu")
    feed.load(0)
    feed.load(1)
    deadline = time.monotonic() + 10
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert made == [(0, False), (1, False), (2, False)]


def test_an_error_in_making_a_batch_is_the_loaders():
    class Failing(BatchSampler):
        def batch(self, step):
            raise OSError("the disk is gone")

    feed = Feed(Failing(np.arange(1000), batch_size=4, seq_len=10, seed=0), "cpu")
    with pytest.raises(OSError, match="the disk is gone"):
        feed.load(0)
