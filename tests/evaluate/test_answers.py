"""Accuracy where something is asked, and loss by position: by hand, and against a plain computation."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from gdnbench.data.tasks import NOT_ASKED, Sequences, open_task
from gdnbench.errors import GdnbenchError
from gdnbench.evaluate.answers import answer
from gdnbench.evaluate.positions import losses_at, position_bins
from gdnbench.models import ModelConfig, Parametrization, build_decoder


class Fixed(torch.nn.Module):
    """Puts out the same logits for every token, by a table [vocabulary, vocabulary]."""

    def __init__(self, table):
        super().__init__()
        self.table = torch.tensor(table)

    def forward(self, tokens, state=None):
        return self.table[tokens], state


def decoder(vocab_size=16, seed=0):
    config = ModelConfig(arch="gdn", width=16, base_width=16, depth=1, vocab_size=vocab_size, embedding_std=1.0)
    return build_decoder(config, Parametrization(), seed=seed).double()


def test_the_answer_is_the_largest_logit_where_something_is_asked():
    model = Fixed([[0.0, 1.0, 2.0], [5.0, 5.0, 1.0], [0.0, 0.0, 9.0]])
    inputs = np.array([[0, 1, 2], [0, 1, 2]])
    targets = np.array([[2, 0, NOT_ASKED], [1, 1, 2]])
    got = answer(model, Sequences(inputs=inputs, targets=targets), batch_tokens=3)
    # Right: 2 after 0, 0 after 1 (the first of two equal ones), 2 after 2; wrong: 1 after 0, 1 after 1.
    assert (got.right, got.asked) == (3, 5)
    assert got.accuracy == 3 / 5
    log = torch.log_softmax(model.table, -1)
    expected = -(log[0, 2] + log[1, 0] + log[0, 1] + log[1, 1] + log[2, 2]) / 5
    assert got.loss == pytest.approx(float(expected), rel=1e-6)


def test_answers_before_the_first_position_do_not_count():
    model = Fixed([[1.0, 0.0], [1.0, 0.0]])
    sequences = Sequences(inputs=np.array([[0, 1, 0]]), targets=np.array([[1, 0, 0]]))
    assert answer(model, sequences, batch_tokens=8, first=1).accuracy == 1.0
    assert answer(model, sequences, batch_tokens=8).accuracy == pytest.approx(2 / 3)


def test_a_decoders_answers_are_those_of_its_whole_logits():
    task = open_task("task:mqar", {"pairs": [2, 3], "vocabulary": 16}, "task")
    sequences, model = task.held_out("test", 10, 16), decoder()
    tokens, targets = torch.from_numpy(sequences.inputs), torch.from_numpy(sequences.targets)
    with torch.no_grad():
        logits = model(tokens)[0]
    asked = targets != NOT_ASKED
    for batch_tokens in (1, 48, 1000):
        got = answer(model, sequences, batch_tokens=batch_tokens)
        assert got.asked == 25
        assert got.right == int((logits.argmax(-1) == targets)[asked].sum())
        assert got.loss == pytest.approx(float(functional.cross_entropy(logits[asked], targets[asked])), rel=1e-9)
        assert got.loss == pytest.approx(model.loss(tokens, targets).item(), rel=1e-9)


def test_losses_at_lengths_are_those_of_the_same_targets_in_shorter_windows():
    model, tokens = decoder(), np.random.default_rng(0).integers(0, 16, 200).astype(np.uint16)
    found = losses_at(model, tokens, lengths=(8, 32), sequences=4, batch_tokens=20)
    assert {length: losses.shape for length, losses in found.items()} == {8: (16, 8), 32: (4, 32)}
    starts = [index * (199 - 32) // 3 for index in range(4)]
    for length, losses in found.items():
        pieces = [start + cut for start in starts for cut in range(0, 32, length)]
        for row, start in zip(losses, pieces, strict=True):
            window = torch.from_numpy(tokens[start : start + length + 1].astype(np.int64))
            with torch.no_grad():
                log = model(window[None, :-1])[0][0].log_softmax(-1)
            expected = -log[torch.arange(length), window[1:]]
            assert row == pytest.approx(expected.numpy(), rel=1e-9)


def test_bins_cover_every_position_once_and_widen():
    losses = {100: np.arange(300.0).reshape(3, 100)}
    bins = position_bins(losses)
    places = [place for entry in bins for place in range(entry.first, entry.last + 1)]
    assert places == list(range(1, 101))
    assert sum(entry.loss * entry.tokens for entry in bins) == pytest.approx(losses[100].sum())
    assert [(e.first, e.last) for e in bins[:6]] == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (7, 8)]
    assert bins[0].loss == pytest.approx(100.0) and bins[0].tokens == 3


def test_a_position_is_measured_in_the_shortest_windows_that_reach_it():
    short, long = np.arange(40.0).reshape(4, 10), np.full((2, 20), 7.0)
    bins = position_bins({10: short, 20: long})
    assert {entry.last for entry in bins} >= {10, 20}
    assert sum(e.tokens for e in bins if e.last <= 10) == 40 and sum(e.tokens for e in bins if e.first > 10) == 20
    assert sum(e.loss * e.tokens for e in bins if e.last <= 10) == pytest.approx(short.sum())
    assert all(entry.loss == 7.0 for entry in bins if entry.first > 10)


def test_a_text_that_is_too_short_is_told():
    with pytest.raises(GdnbenchError, match="enough for 3"):
        losses_at(decoder(), np.zeros(100, dtype=np.uint16), lengths=(32,), sequences=4, batch_tokens=64)
