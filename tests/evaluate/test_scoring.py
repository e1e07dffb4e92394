"""Scoring: each token once, with the context that was promised, and a carried state that equals one pass."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gdnbench.errors import GdnbenchError
from gdnbench.evaluate.scoring import plan_windows, score_documents, token_nll
from gdnbench.models import build_decoder
from gdnbench.models.config import ModelConfig
from gdnbench.models.parametrization import Parametrization

rng = np.random.default_rng(0)
TOKENS = rng.integers(1, 256, 101)
FROM_START = np.concatenate([[0], TOKENS])


@given(st.integers(0, 200), st.integers(1, 40), st.data())
def test_windows_score_each_token_once_with_enough_context(length: int, window: int, data: st.DataObject):
    stride = data.draw(st.integers(1, window))
    windows = plan_windows(length, window=window, stride=stride)
    assert [token for span in windows for token in range(span.first, span.end)] == list(range(1, length + 1))
    for span in windows:
        assert 1 <= span.end - 1 - span.start <= window
        assert span.start == 0 or span.first - span.start >= window - stride
        # All windows are full but those that reach back to the start.
        assert span.start == 0 or span.end - 1 - span.start == window


def test_disjoint_windows_have_one_token_of_context_and_the_last_is_moved_back():
    spans = [(span.start, span.first, span.end) for span in plan_windows(10, window=4, stride=4)]
    assert spans == [(0, 1, 5), (4, 5, 9), (6, 9, 11)]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize(("window", "stride"), [(16, 16), (16, 5), (7, 1), (200, 200)])
def test_each_token_is_scored_in_its_window(recurrent, window: int, stride: int, batch_size: int):
    found = token_nll(recurrent, TOKENS, separator=0, window=window, stride=stride, batch_size=batch_size)
    assert (found.shape, found.dtype) == (TOKENS.shape, np.float64)
    for span in plan_windows(len(TOKENS), window=window, stride=stride):
        expected = recurrent.exact_nll(FROM_START[span.start : span.end])[-(span.end - span.first) :]
        np.testing.assert_allclose(found[span.first - 1 : span.end - 1], expected, rtol=1e-5)
    assert recurrent.longest <= window or recurrent.longest <= len(TOKENS)


@pytest.mark.parametrize("window", [1, 16, 101, 500])
def test_a_carried_state_equals_one_pass(recurrent, window: int):
    found = token_nll(recurrent, TOKENS, separator=0, window=window, stride=window, batch_size=2, carry_state=True)
    np.testing.assert_allclose(found, recurrent.exact_nll(FROM_START), rtol=1e-5)


def test_without_carrying_the_past_is_lost(recurrent):
    found = token_nll(recurrent, TOKENS, separator=0, window=16, stride=16, batch_size=2)
    assert not np.allclose(found[16:], recurrent.exact_nll(FROM_START)[16:], rtol=1e-3)


@pytest.mark.parametrize("carry_state", [False, True])
def test_documents_do_not_see_each_other(recurrent, carry_state: bool):
    documents = [TOKENS[:3], TOKENS[3:40], TOKENS[40:40], TOKENS[40:41], TOKENS[41:]]
    keywords = {"separator": 0, "window": 8, "stride": 8, "carry_state": carry_state}
    together = score_documents(recurrent, documents, batch_size=3, **keywords)
    for document, found in zip(documents, together):
        alone = token_nll(recurrent, document, batch_size=1, **keywords)
        np.testing.assert_allclose(found, alone, rtol=1e-6)


def test_a_uniform_model_scores_log_vocab(uniform):
    found = token_nll(uniform, TOKENS, separator=0, window=16, stride=3, batch_size=4)
    np.testing.assert_allclose(found, math.log(256), rtol=1e-6)


def test_progress_reaches_the_total(uniform):
    calls = []
    token_nll(
        uniform, TOKENS, separator=0, window=16, stride=16, batch_size=2, progress=lambda *call: calls.append(call)
    )
    assert calls[-1] == (101, 101)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_the_mode_of_the_model_comes_back_and_no_gradient_is_kept(recurrent):
    recurrent.train()
    modes = []
    recurrent.register_forward_pre_hook(lambda *_: modes.append((recurrent.training, torch.is_grad_enabled())))
    token_nll(recurrent, TOKENS, separator=0, window=16, stride=16, batch_size=8)
    assert set(modes) == {(False, False)}
    assert recurrent.training


@pytest.mark.parametrize(("window", "stride"), [(4, 5), (4, 0), (0, 0)])
def test_impossible_windows(uniform, window: int, stride: int):
    with pytest.raises(GdnbenchError, match=f"window {window}, stride {stride}"):
        token_nll(uniform, TOKENS, separator=0, window=window, stride=stride, batch_size=1)


def test_a_carried_state_has_no_stride(uniform):
    with pytest.raises(GdnbenchError, match="stride 2 must equal window 4"):
        token_nll(uniform, TOKENS, separator=0, window=4, stride=2, batch_size=1, carry_state=True)


def test_tokens_beyond_the_vocabulary_are_named(uniform):
    with pytest.raises(GdnbenchError, match=r"token id 300, but the model's vocabulary has 256"):
        token_nll(uniform, np.array([5, 300]), separator=0, window=4, stride=4, batch_size=1)


HEADS = {"gdn": {"heads": 2}}


class Logits(torch.nn.Module):
    """A decoder of which only the logits are known."""

    def __init__(self, model):
        super().__init__()
        self.inner = model

    def forward(self, tokens):
        return self.inner(tokens)


@pytest.mark.parametrize("tied", [True, False])
def test_a_decoder_scores_as_its_logits_do(tied):
    config = ModelConfig(arch="gdn", width=32, base_width=16, depth=1, vocab_size=50, tied=tied, options=HEADS)
    model = build_decoder(config, Parametrization(table="mup_gdn"), seed=1).double()
    documents = [rng.integers(0, 50, size) for size in (70, 1, 33)]
    found, expected = (
        score_documents(scored, documents, separator=3, window=16, stride=8, batch_size=3)
        for scored in (model, Logits(model))
    )
    for first, second in zip(found, expected, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6)
    with pytest.raises(GdnbenchError, match="token id 50, but the model's vocabulary has 50"):
        score_documents(model, [np.array([50])], separator=3, window=16, stride=8, batch_size=3)
