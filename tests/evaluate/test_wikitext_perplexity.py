"""WikiText's three word perplexities: their denominators, what they refuse, and what they leave out."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

from gdnbench.data import open_corpus
from gdnbench.data.tokenizers import BpeTokenizer, ByteTokenizer, train_bpe
from gdnbench.errors import GdnbenchError
from gdnbench.evaluate import METRICS, evaluate_wikitext
from gdnbench.evaluate.detokenize import detokenize
from gdnbench.evaluate.wikitext_counts import lmeval_pages, lmeval_words, scored_mask, unk_words, word_level_tokens

# 7 + 6 line ends on the first page (one ahead of the heading), 11 + 3 on the second; 2 + 1 of the words are <unk>.
PAGE_ONE = " \n = One = \n \n The <unk> <unk> . \n \n \n"
PAGE_TWO = " = Two = \n \n It is a well @-@ known <unk> . \n"
TEXT = PAGE_ONE + PAGE_TWO
WORDS, LINES, UNKS = 7 + 11, 6 + 3, 3
KEYWORDS = {"window": 16, "batch_size": 4}


@pytest.fixture
def v1(tmp_path: Path) -> str:
    (tmp_path / "wiki.test.tokens").write_bytes(TEXT.encode())
    return f"wikitext-103:{tmp_path}"


@pytest.fixture
def raw(tmp_path: Path) -> str:
    (tmp_path / "wiki.test.raw").write_bytes(TEXT.replace("<unk>", "word").encode())
    return f"wikitext-103-raw:{tmp_path}"


@pytest.fixture(scope="module")
def bpe() -> BpeTokenizer:
    # Merges that join letters, the space before a word and <unk> with its neighbours.
    return BpeTokenizer("bpe:300", train_bpe(["a (<unk>), the <unk>. and <unk> well-known it is " * 20], 300))


def test_counts_of_a_text_by_hand():
    assert word_level_tokens(TEXT) == WORDS + LINES
    assert unk_words(TEXT) == UNKS
    assert [lmeval_words(page) for page in lmeval_pages(TEXT)] == [2 + 7, 2 + 11]


def test_pages_as_the_task_has_them():
    assert lmeval_pages(TEXT) == [
        " = One = \n \n The <unk> <unk> . \n \n ",
        " = Two = \n \n It is a well @-@ known <unk> . \n",
    ]
    assert lmeval_pages("intro\n = A = \n") == ["intro", " = A = \n"]


def test_classic_convention_of_a_uniform_model(uniform, v1: str):
    found = evaluate_wikitext(
        uniform, ByteTokenizer(), v1, "test", "wt103_token_ppl", trained_on="wikitext-103", **KEYWORDS
    )
    size = len(TEXT.encode())
    assert found.denominator == WORDS + LINES
    assert found.total_nll == pytest.approx(size * math.log(256), rel=1e-6)
    assert found.value == pytest.approx(256 ** (size / (WORDS + LINES)), rel=1e-5)
    assert (found.bytes, found.bits_per_byte) == (size, pytest.approx(8.0))
    assert (found.documents, found.excluded, found.excluded_tokens, found.scored_tokens) == (1, 0, 0, size)
    assert (found.metric, found.window, found.stride, found.out_of_domain) == ("wt103_token_ppl", 16, 16, False)
    assert found.corpus == "wikitext-103"


def test_lm_eval_convention_of_a_uniform_model(uniform, raw: str):
    found = evaluate_wikitext(
        uniform, ByteTokenizer(), raw, "test", "lmeval_word_ppl", trained_on="text:/x", **KEYWORDS
    )
    originals = lmeval_pages(TEXT.replace("<unk>", "word"))
    scored = sum(len(detokenize(page).encode()) for page in originals)
    original_bytes = sum(len(page.encode()) for page in originals)
    assert scored < original_bytes
    assert found.denominator == 9 + 13
    assert found.value == pytest.approx(256 ** (scored / 22), rel=1e-5)
    assert found.byte_perplexity == pytest.approx(256 ** (scored / original_bytes), rel=1e-5)
    assert found.bits_per_byte == pytest.approx(8 * scored / original_bytes)
    assert (found.documents, found.out_of_domain, found.trained_on) == (2, True, "text")


@pytest.mark.parametrize("name", ["bytes", "bpe"])
def test_unk_is_context_but_not_scored(recurrent, v1: str, bpe: BpeTokenizer, name: str):
    tokenizer = bpe if name == "bpe" else ByteTokenizer()
    model = type(recurrent)(vocab=tokenizer.vocab_size)
    keywords = {"window": 1000, "batch_size": 2, "trained_on": "wikitext-103-raw"}
    found = evaluate_wikitext(model, tokenizer, v1, "test", "wt103_nounk_ppl", **keywords)
    expected = 0.0
    excluded = 0
    for page in (PAGE_ONE, PAGE_TWO):
        text = detokenize(page)
        tokens = tokenizer.encode(text)
        nll = model.exact_nll(np.concatenate([[tokenizer.separator], tokens]))
        # By hand: a token counts if none of its bytes lies in an <unk>.
        marked = text.encode().replace(b"<unk>", b"\0" * 5)
        position = 0
        for token, value in zip(tokens, nll):
            length = int(tokenizer.byte_lengths[token])
            if b"\0" in marked[position : position + length]:
                excluded += 1
            else:
                expected += value
            position += length
    assert found.total_nll == pytest.approx(expected, rel=1e-6)
    assert (found.excluded, found.excluded_tokens) == (UNKS, excluded)
    assert found.denominator == WORDS + LINES - UNKS
    assert found.value == pytest.approx(math.exp(expected / found.denominator), rel=1e-6)
    assert not found.out_of_domain


def test_masks_cover_exactly_the_tokens_that_overlap(bpe: BpeTokenizer):
    text = "a (<unk>), é <unk>."
    assert scored_mask(text, ByteTokenizer().encode(text), ByteTokenizer()).sum() == len(text.encode()) - 10
    tokens = bpe.encode(text)
    left_out = [bpe.decode([token]) for token in tokens[~scored_mask(text, tokens, bpe)]]
    assert "".join(left_out).count("unk") == 2
    assert all(set(piece) & set("<unk>") for piece in left_out)
    assert len(left_out) < 10


def test_only_models_of_v1_have_the_classic_number_unless_it_is_labelled(uniform, v1: str):
    arguments = (uniform, ByteTokenizer(), v1, "test", "wt103_token_ppl")
    with pytest.raises(GdnbenchError, match=r"only for models trained on wikitext-103, this one was trained on stdlib"):
        evaluate_wikitext(*arguments, trained_on="stdlib", **KEYWORDS)
    found = evaluate_wikitext(*arguments, trained_on="stdlib", out_of_domain=True, **KEYWORDS)
    assert found.out_of_domain
    assert evaluate_wikitext(*arguments, trained_on="wikitext-103:/x", **KEYWORDS).out_of_domain is False


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_refuses_the_other_form(uniform, v1: str, raw: str, metric: str):
    other = v1 if METRICS[metric].corpus == "wikitext-103-raw" else raw
    with pytest.raises(GdnbenchError, match=f"{metric} is defined on {METRICS[metric].corpus}, got"):
        evaluate_wikitext(uniform, ByteTokenizer(), other, "test", metric, trained_on="wikitext-103", **KEYWORDS)


def test_v1_under_the_name_of_raw_is_noticed(uniform, tmp_path: Path):
    (tmp_path / "wiki.test.raw").write_text(TEXT)
    with pytest.raises(GdnbenchError, match=r"3 of 18 words .* are <unk>, so this is no raw text"):
        evaluate_wikitext(
            uniform,
            ByteTokenizer(),
            f"wikitext-103-raw:{tmp_path}",
            "test",
            "lmeval_word_ppl",
            trained_on="x",
            **KEYWORDS,
        )


@pytest.mark.parametrize("other", [{"stride": 3}, {"carry_state": True}])
def test_lm_evals_windows_are_disjoint(uniform, raw: str, other: dict[str, int]):
    with pytest.raises(GdnbenchError, match="disjoint windows"):
        evaluate_wikitext(uniform, ByteTokenizer(), raw, "test", "lmeval_word_ppl", trained_on="x", **KEYWORDS, **other)


def test_strides_and_carried_state_are_recorded_and_change_the_score(recurrent, v1: str):
    arguments = (recurrent, ByteTokenizer(), v1, "test", "wt103_token_ppl")
    keywords = {"trained_on": "wikitext-103", **KEYWORDS}
    disjoint = evaluate_wikitext(*arguments, **keywords)
    strided = evaluate_wikitext(*arguments, stride=4, **keywords)
    carried = evaluate_wikitext(*arguments, carry_state=True, **keywords)
    assert (strided.stride, carried.carry_state) == (4, True)
    assert len({disjoint.total_nll, strided.total_nll, carried.total_nll}) == 3
    whole = recurrent.exact_nll(np.frombuffer(b"\0" + TEXT.encode(), dtype=np.uint8))
    assert carried.total_nll == pytest.approx(whole.sum(), rel=1e-6)


def test_unknown_names(uniform, v1: str):
    with pytest.raises(GdnbenchError, match="did you mean wt103_token_ppl"):
        evaluate_wikitext(uniform, ByteTokenizer(), v1, "test", "wt103_token", trained_on="wikitext-103", **KEYWORDS)
    with pytest.raises(GdnbenchError, match="no split 'valid' here; found: test"):
        evaluate_wikitext(uniform, ByteTokenizer(), v1, "valid", "wt103_nounk_ppl", trained_on="x", **KEYWORDS)


@pytest.mark.parametrize(("split", "tokens", "unks"), [("valid", 217_646, None), ("test", 245_569, 2_492)])
def test_the_published_counts_of_wikitext(split: str, tokens: int, unks: int | None):
    folder = os.environ.get("GDNBENCH_WIKITEXT")
    if not folder:
        pytest.skip("GDNBENCH_WIKITEXT does not name a folder with wiki.valid.tokens and wiki.test.tokens")
    text = "".join(open_corpus(f"wikitext-103:{folder}").documents(split))
    assert word_level_tokens(text) == tokens
    assert unks is None or unk_words(text) == unks
