"""Validation loss: closed forms for a uniform model, an evenly spaced fixed set of windows, exact bytes and words."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdnbench.data.tokenizers import ByteTokenizer
from gdnbench.errors import GdnbenchError
from gdnbench.evaluate.validation import count_words, perplexity, validation_loss, window_starts

TEXT = "The first document of two.\n\0And the café, the second one; it is longer.\n\0"
TOKENS = np.frombuffer(TEXT.encode(), dtype=np.uint8)


def test_closed_forms_of_a_uniform_model(uniform):
    found = validation_loss(
        uniform, TOKENS, tokenizer=ByteTokenizer(), seq_len=len(TOKENS) - 1, batch_size=4, sequences=1
    )
    size = len(TOKENS) - 1
    assert found.tokens == size
    assert found.bytes == size - 2  # two separators
    assert found.words == 14 - 1  # the first word begins in the token that is context only
    assert found.loss == pytest.approx(math.log(256))
    assert found.bits_per_byte == pytest.approx(8 * size / (size - 2))
    assert found.whitespace_word_ppl == pytest.approx(256 ** (size / 13))


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_loss_is_the_mean_over_the_windows_whatever_the_batch(recurrent, batch_size: int):
    found = validation_loss(recurrent, TOKENS, tokenizer=ByteTokenizer(), seq_len=9, batch_size=batch_size, sequences=7)
    expected = [recurrent.exact_nll(TOKENS[s : s + 10]) for s in window_starts(len(TOKENS), seq_len=9, sequences=7)]
    assert found.loss == pytest.approx(np.mean(expected), rel=1e-6)
    assert (found.tokens, found.sequences, found.seq_len) == (63, 7, 9)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 500))
def test_windows_are_disjoint_and_reach_both_ends(seq_len: int, sequences: int, extra: int):
    length = seq_len * sequences + 1 + extra
    starts = window_starts(length, seq_len=seq_len, sequences=sequences)
    assert len(starts) == sequences
    assert starts[0] == 0
    assert sequences == 1 or starts[-1] == length - 1 - seq_len
    gaps = np.diff(starts)
    assert (gaps >= seq_len).all()
    assert sequences < 3 or gaps.max() - gaps.min() <= 1


def test_too_many_windows_say_how_many_fit():
    with pytest.raises(
        GdnbenchError, match="5 sequences of 20 tokens asked for, but the split has 100 tokens, enough for 4"
    ):
        window_starts(100, seq_len=20, sequences=5)


@given(st.text(alphabet="ab \n\0", min_size=2, max_size=40), st.data())
def test_words_of_adjacent_windows_add_up(text: str, data: st.DataObject):
    row = np.frombuffer(text.encode(), dtype=np.uint8)
    cut = data.draw(st.integers(0, len(row) - 1))
    tokenizer = ByteTokenizer()
    whole = count_words(tokenizer, np.concatenate([[0], row]))
    assert whole == len(text.replace("\0", " ").split())
    assert count_words(tokenizer, np.concatenate([[0], row[: cut + 1]])) + count_words(tokenizer, row[cut:]) == whole


def test_perplexity_at_its_limits():
    assert perplexity(1e6, 1) == math.inf
    assert math.isnan(perplexity(1.0, 0))
    assert perplexity(math.log(7) * 3, 3) == pytest.approx(7)
