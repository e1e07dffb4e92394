"""Pieces of a text as its tokens come are that text: characters whole, and nothing past a stop."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdnbench.data import open_corpus, open_tokenizer
from gdnbench.data.tokenizers import ByteTokenizer
from gdnbench.inference.text import TextStream

SIGNS = "é漢😀 e\u0301 the "


@pytest.fixture(scope="module", params=["bytes", "bpe:280"])
def tokenizer(request, books):
    return open_tokenizer(request.param, open_corpus(books))


def pieces(stream, tokens, cuts):
    parts = [tokens[a:b] for a, b in pairwise(sorted({0, len(tokens), *(cut % (len(tokens) + 1) for cut in cuts)}))]
    return [stream.add(part) for part in parts] + [stream.add([], final=True)]


def test_pieces_make_the_text_that_decoding_makes(tokenizer):
    """Of random tokens, which are no UTF-8 here and there, however they are cut."""

    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.integers(0, tokenizer.vocab_size - 1), min_size=1), st.lists(st.integers(0, 99)))
    def check(tokens, cuts):
        assert "".join(pieces(TextStream(tokenizer), tokens, cuts)) == tokenizer.decode(tokens)

    check()


def test_a_character_is_shown_when_it_is_whole(tokenizer):
    stream, shown = TextStream(tokenizer), ""
    for token in tokenizer.encode(SIGNS):
        shown += stream.add([int(token)])
        assert SIGNS.startswith(shown)
        assert "\ufffd" not in shown
    assert shown == SIGNS


@pytest.mark.parametrize("stop", ["the", "é", "h\u6f22", "aab", "never"])
def test_text_ends_before_a_stop_text(tokenizer, stop):
    whole = "aaab 漢 to the é h\u6f22"
    for size in (1, 2, 50):
        stream, tokens = TextStream(tokenizer, [stop, ""]), tokenizer.encode(whole).tolist()
        shown = "".join(stream.add(tokens[start : start + size]) for start in range(0, len(tokens), size))
        shown += stream.add([], final=True)
        assert shown == whole.partition(stop)[0]
        assert stream.over is (stop in whole)


def test_spellings_are_the_bytes(tokenizer):
    text = f"{SIGNS}\n\t\x7f\xad ~!"
    assert b"".join(map(tokenizer.spelling, tokenizer.encode(text))) == text.encode()
    assert tokenizer.spelling(10**6) == b""
    spelled = np.array([len(tokenizer.spelling(token)) for token in range(tokenizer.vocab_size)])
    spelled[tokenizer.separator] = 0
    assert (spelled == tokenizer.byte_lengths).all()


def test_bytes_spell_themselves():
    assert [ByteTokenizer().spelling(token) for token in (65, 255)] == [b"A", b"\xff"]
