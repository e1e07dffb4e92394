"""Tokenizers: exact in bytes, deterministic, cached, and unable to put a separator inside a document."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers as hf
from hypothesis import given, settings
from hypothesis import strategies as st

from gdnbench.data.corpora import open_corpus
from gdnbench.data.tokenizers import ByteTokenizer, open_tokenizer, train_bpe
from gdnbench.errors import GdnbenchError

TEXT = "the quick brown fox, the quicker fox and the café: " * 40
# Any text but NUL, which is the separator of `bytes`, and lone surrogates, which UTF-8 cannot hold.
any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@pytest.fixture
def corpus(tmp_path: Path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "train.txt").write_text(TEXT)
    (folder / "valid.txt").write_text("fox")
    return open_corpus(f"text:{folder}")


@given(any_text)
def test_bytes_are_utf8_and_decode_again(text: str):
    tokenizer = ByteTokenizer()
    tokens = tokenizer.encode(text)
    assert tokens.tolist() == list(text.encode())
    assert tokenizer.decode(tokens) == text
    assert tokenizer.byte_lengths[tokens].sum() == len(text.encode())


def test_a_nul_is_refused_because_it_would_end_the_document():
    with pytest.raises(GdnbenchError, match="NUL at byte 3"):
        ByteTokenizer().encode("é?\0")


def test_a_cut_character_decodes_to_the_replacement_sign():
    assert ByteTokenizer().decode([0xC3]) == "\ufffd"


def test_bpe_is_exact_on_any_text_and_batches_agree(corpus):
    tokenizer = open_tokenizer("bpe:280", corpus)
    assert tokenizer.vocab_size == 280

    @settings(deadline=None)
    @given(any_text)
    def check(text: str):
        tokens = tokenizer.encode(text)
        assert tokenizer.decode(tokens) == text
        assert tokenizer.byte_lengths[tokens].sum() == len(text.encode())
        assert tokenizer.encode_batch([text, "fox"])[0].tolist() == tokens.tolist()

    check()
    assert len(tokenizer.encode(TEXT)) < 0.7 * len(TEXT)


def test_a_document_that_mentions_the_separator_does_not_contain_it(corpus):
    tokenizer = open_tokenizer("bpe:280", corpus)
    tokens = tokenizer.encode("a<|endoftext|>b")
    assert tokenizer.separator not in tokens
    assert tokenizer.decode(tokens) == "a<|endoftext|>b"
    assert tokenizer.byte_lengths[tokenizer.separator] == 0
    assert tokenizer.decode([tokenizer.separator]) == "<|endoftext|>"


def test_bpe_training_gives_the_same_result_in_another_process():
    code = f"from gdnbench.data.tokenizers import train_bpe; print(train_bpe([{TEXT!r}], 290).to_str())"
    root = Path(__file__).resolve().parents[2]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert found.strip() == train_bpe([TEXT], 290).to_str().strip()


def test_bpe_is_kept_and_a_damaged_copy_is_set_aside(corpus, cache: Path):
    first = open_tokenizer("bpe:280", corpus)
    (kept,) = (cache / "tokenizers").glob("bpe-280-*.json")
    stamp = kept.stat().st_mtime_ns
    assert open_tokenizer("bpe:280", corpus).hash == first.hash
    assert kept.stat().st_mtime_ns == stamp
    kept.write_text(kept.read_text()[:100])
    with pytest.warns(RuntimeWarning, match=r"damaged .* trained again"):
        assert open_tokenizer("bpe:280", corpus).hash == first.hash
    assert kept.with_name(kept.name + ".corrupt").is_file()
    assert open_tokenizer("bpe:281", corpus).hash != first.hash


def test_a_corpus_too_small_for_the_vocabulary_names_one_that_fits(corpus):
    with pytest.raises(GdnbenchError, match=r"no more than (\d+) tokens; use bpe:") as caught:
        open_tokenizer("bpe:5000", corpus)
    fitting = str(caught.value).rpartition(" ")[2]
    assert open_tokenizer(fitting, corpus).name == fitting


@pytest.mark.parametrize("spec", ["bpe:", "bpe:many", "bpe:256", "bpe:-5"])
def test_bad_sizes(spec: str, corpus):
    with pytest.raises(GdnbenchError, match="at least 257"):
        open_tokenizer(spec, corpus)


@pytest.mark.parametrize("spec", ["gpt3", "bytes:5", "byte"])
def test_unknown_tokenizers(spec: str, corpus):
    with pytest.raises(GdnbenchError, match="unknown tokenizer"):
        open_tokenizer(spec, corpus)


def test_gpt2_from_a_file_or_its_folder(corpus, tmp_path: Path):
    train_bpe([TEXT], 280).save(str(tmp_path / "tokenizer.json"))
    tokenizer = open_tokenizer(f"gpt2:{tmp_path}", corpus)
    assert tokenizer.name == "gpt2"
    assert tokenizer.hash == open_tokenizer(f"gpt2:{tmp_path / 'tokenizer.json'}", corpus).hash
    assert np.array_equal(tokenizer.encode("fox"), open_tokenizer("bpe:280", corpus).encode("fox"))
    with pytest.raises(GdnbenchError, match="no such file"):
        open_tokenizer("gpt2:/nowhere", corpus)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(GdnbenchError, match=r"not a tokenizer\.json"):
        open_tokenizer(f"gpt2:{tmp_path}", corpus)


@pytest.mark.parametrize("flaw", ["normalizer", "separator"])
def test_a_tokenizer_whose_bytes_cannot_be_counted_is_refused(flaw: str, corpus, tmp_path: Path):
    backend = train_bpe([TEXT], 280)
    if flaw == "normalizer":
        backend.normalizer = hf.normalizers.NFC()
    backend.save(str(tmp_path / "tokenizer.json"))
    if flaw == "separator":
        path = tmp_path / "tokenizer.json"
        path.write_text(path.read_text().replace("<|endoftext|>", "<s>"))
    with pytest.raises(
        GdnbenchError, match="not an exact byte-level BPE" if flaw == "normalizer" else "it has no token"
    ):
        open_tokenizer(f"gpt2:{tmp_path}", corpus)


def test_an_unreachable_hub_says_how_to_go_without(corpus, monkeypatch: pytest.MonkeyPatch):
    def fail(name: str) -> None:
        raise OSError("offline")

    monkeypatch.setattr(hf.Tokenizer, "from_pretrained", fail)
    with pytest.raises(GdnbenchError, match=r"gpt2:<tokenizer.json>"):
        open_tokenizer("gpt2", corpus)
