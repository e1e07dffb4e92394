"""What a run measures at its end beside its losses: every document, other corpora, overlap with the training text."""

import math

import pytest

from gdnbench.errors import GdnbenchError
from gdnbench.results import Store
from gdnbench.runs.execute import execute
from gdnbench.runs.progress import Observer
from tests.runs.tiny import make_books, specs, sweep, write_study

TEXT = " \n = One = \n \n The <unk> word . \n \n = Two = \n \n It is a well @-@ known <unk> . \n"


@pytest.fixture(scope="module")
def wiki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wiki")
    (folder / "wiki.test.tokens").write_text(TEXT, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def poems(tmp_path_factory):
    return make_books(tmp_path_factory.mktemp("other") / "poems")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, books, wiki, poems):
    """The record and rows of a run that measures all."""
    store = Store(tmp_path_factory.mktemp("results"), "tiny")
    asked = {"splits": ["valid", "test"], "documents": True, "also": [f"wikitext-103:{wiki}", poems]}
    (spec,) = specs(books, evaluation=asked)
    execute(spec, store, Observer())
    return store.read(spec.run_id), store.rows(spec.run_id), spec


def of(rows, corpus, split):
    return [row for row in rows if row["type"] == "document" and (row["corpus"], row["split"]) == (corpus, split)]


def test_every_document_has_a_row_and_the_metrics_are_their_sums(finished, books):
    record, rows, spec = finished
    label = spec.placeless().data.corpus
    found = of(rows, label, "test")
    assert [row["document"] for row in found] == list(range(12))
    nll, tokens, size = (sum(row[key] for row in found) for key in ("nll", "tokens", "bytes"))
    assert size == tokens, "the tokenizer is that of bytes"
    assert record.metric("test_documents_loss") == pytest.approx(nll / tokens)
    assert record.metric("test_documents_bits_per_byte") == pytest.approx(nll / size / math.log(2))
    assert of(rows, label, "valid") == [], "the split that chooses rates compares nothing"


def test_another_corpus_is_scored_by_its_convention_and_labelled(finished):
    record, rows, _ = finished
    about = record.data["also"]
    assert about["wikitext-103"]["metric"] == "wt103_nounk_ppl" and about["wikitext-103"]["out_of_domain"] is True
    pages = of(rows, "wikitext-103", "test")
    assert len(pages) == 2
    words = about["wikitext-103"]["denominator"]
    assert record.metric("wt103_nounk_ppl") == pytest.approx(math.exp(sum(page["nll"] for page in pages) / words))
    assert about["text:poems"] == {"split": "test", "out_of_domain": True}
    assert len(of(rows, "text:poems", "test")) == 12
    # The same words as in the books, by the same seed.
    assert record.metric("text_poems_loss") == pytest.approx(record.metric("test_documents_loss"), rel=1e-5)


def test_overlap_with_the_train_split_is_recorded(finished):
    record, rows, spec = finished
    texts = record.data["overlap"]
    # Nine words drawn at random: 13 of them in a row come twice only by a rare chance.
    assert texts["test"] == {
        "words": 13, "ngrams": 12 * (30 - 12), "in_train": 0, "documents": 12, "documents_with": 0,
    }  # fmt: skip
    assert texts["wikitext-103 test"]["ngrams"] == 0, "both pages are shorter than 13 words"
    assert {row["in_train"] for row in of(rows, spec.placeless().data.corpus, "test")} == {0.0}
    assert {row["in_train"] for row in of(rows, "wikitext-103", "test")} == {0.0}


def test_no_place_of_this_machine_is_in_the_record_or_the_id(finished, books, wiki):
    record, rows, spec = finished
    for where in (str(wiki), books.partition(":")[2]):
        assert where not in str(record) and where not in str(rows)
    elsewhere = specs(
        books, evaluation={"splits": ["valid", "test"], "documents": True, "also": ["wikitext-103", "text:poems"]}
    )
    assert elsewhere[0].run_id == spec.run_id


def test_runs_that_ask_for_none_keep_their_ids(books):
    (plain,), (asked,) = specs(books), specs(books, evaluation={"documents": False, "also": []})
    assert plain.run_id == asked.run_id
    assert specs(books, evaluation={"documents": True})[0].run_id != plain.run_id


def test_a_corpus_that_is_not_there_is_told_before_the_training(tmp_path, books):
    (spec,) = specs(books, evaluation={"also": [f"wikitext-103:{tmp_path}"]})
    store = Store(tmp_path, "tiny")
    with pytest.raises(GdnbenchError, match="neither wiki"):
        execute(spec, store, Observer())
    assert not store.rows_path(spec.run_id).exists()


def test_the_command_says_where_another_corpus_lies(tmp_path, books, wiki):
    from gdnbench import launch

    path = write_study(
        tmp_path / "p.yaml", sweep(evaluation={"also": ["wikitext-103"]}), evaluation={"also": ["stdlib"]}
    )
    chosen = launch.choose(str(path), also=[f"wikitext-103:{wiki}"])
    assert chosen.preset.experiments[0].evaluation["also"] == [f"wikitext-103:{wiki}"]
    assert chosen.preset.evaluation["also"] == ["stdlib"] and chosen.set == "tiny"
    with pytest.raises(GdnbenchError, match=r"--also text:x: preset tiny .* stdlib, wikitext-103"):
        launch.choose(str(path), also=["text:x"])
