"""A kept model is evaluated on another text by every metric; each result is a record of its own."""

import dataclasses

import pytest

from gdnbench.errors import GdnbenchError
from gdnbench.evaluate import METRICS
from gdnbench.results import Store
from gdnbench.runs.evaluation import evaluate_run
from gdnbench.runs.execute import execute
from gdnbench.runs.progress import Observer
from tests.runs.tiny import specs

TEXT = " \n = One = \n \n The <unk> word . \n \n = Two = \n \n It is a well @-@ known <unk> . \n"
WORDS, LINES = 7 + 11, 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory, books):
    root = tmp_path_factory.mktemp("results")
    (spec,) = specs(books, training={"keep_checkpoint": True})
    execute(spec, Store(root, "tiny"), Observer())
    return root, spec.run_id


@pytest.fixture(scope="module")
def wiki(tmp_path_factory):
    """Both forms of WikiText's test split, in the layout of the real files."""
    folder = tmp_path_factory.mktemp("wiki")
    (folder / "wiki.test.tokens").write_text(TEXT, encoding="utf-8")
    (folder / "wiki.test.raw").write_text(TEXT.replace("<unk>", "rare"), encoding="utf-8")
    return folder


def evaluate(trained, **asked):
    root, run_id = trained
    settings = {
        "corpus": "stdlib", "metric": "loss", "split": "test", "window": None, "stride": None,
        "carry_state": False, "out_of_domain": False, "max_tokens": None,
    }  # fmt: skip
    return evaluate_run(root, "tiny", run_id, **{**settings, **asked})


def corpus_of(metric, wiki):
    return f"{METRICS[metric].corpus}:{wiki}"


@pytest.mark.parametrize(
    ("metric", "words"), [("wt103_nounk_ppl", WORDS + LINES - 2), ("lmeval_word_ppl", 7 + 2 + 11 + 2)]
)
def test_word_perplexity(trained, wiki, metric, words):
    record = evaluate(trained, corpus=corpus_of(metric, wiki), metric=metric)
    assert record.kind == "evaluation"
    assert record.metric(metric) > 1
    assert record.data["out_of_domain"] is True, "trained on something else"
    assert record.data["window"] == 16
    assert record.data["document_start"]
    assert record.metric("denominator") == record.data["denominator"] == words


def test_the_classic_metric_is_for_models_of_its_text(trained, wiki):
    corpus = corpus_of("wt103_token_ppl", wiki)
    with pytest.raises(GdnbenchError, match="out_of_domain"):
        evaluate(trained, corpus=corpus, metric="wt103_token_ppl")
    record = evaluate(trained, corpus=corpus, metric="wt103_token_ppl", out_of_domain=True)
    assert record.data["out_of_domain"] is True
    assert record.metric("denominator") == WORDS + LINES


def test_the_results_are_stored_beside_the_run(trained, wiki):
    root, run_id = trained
    record = evaluate(trained, corpus=corpus_of("wt103_nounk_ppl", wiki), metric="wt103_nounk_ppl")
    read = Store(root, "tiny").read(record.run_id)
    assert read == dataclasses.replace(record, rows_sha256=read.rows_sha256)
    assert any(run_id in note for note in read.notes)
    assert Store(root, "tiny").read(run_id).kind == "train"
    row = read.flat()
    assert row["wt103_nounk_ppl"] == record.metric("wt103_nounk_ppl")
    assert row.get("val_loss") is None, "the run's own metrics are not the evaluation's"


def test_evaluating_twice_gives_the_same_record(trained, wiki):
    first, second = (
        evaluate(trained, corpus=corpus_of("wt103_nounk_ppl", wiki), metric="wt103_nounk_ppl") for _ in "ab"
    )
    assert first.run_id == second.run_id
    assert first.metrics == second.metrics


def test_what_was_asked_is_part_of_the_id(trained, books):
    asked = [{}, {"max_tokens": 100}, {"window": 8}, {"stride": 4}, {"carry_state": True}, {"split": "valid"}]
    ids = {evaluate(trained, corpus=books, **settings).run_id for settings in asked}
    assert len(ids) == len(asked)


def test_loss_on_the_text_of_its_training_is_near_the_one_that_was_stored(trained, books):
    root, run_id = trained
    record = evaluate(trained, corpus=books, split="valid")
    assert record.data["out_of_domain"] is False
    assert record.metric("loss") == pytest.approx(Store(root, "tiny").read(run_id).metric("val_loss"), abs=0.3)


MISTAKES = {
    "metric": ({"metric": "wt103"}, "wt103_token_ppl"),
    "split": ({"split": "dev"}, "no split 'dev'"),
    "window": ({"window": -5}, "window"),
    "stride": ({"stride": 99}, "stride"),
    "no tokens": ({"max_tokens": 0}, "token"),
    "corpus": ({"corpus": "stdlibs"}, "stdlib"),
    "metric of another corpus": ({"metric": "lmeval_word_ppl"}, "wikitext-103-raw"),
}


@pytest.mark.parametrize(("asked", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistake(trained, books, asked, said):
    with pytest.raises(GdnbenchError, match=said):
        evaluate(trained, **{"corpus": books, **asked})


def test_no_such_run_names_those_that_can_be_evaluated(trained, books):
    root, run_id = trained
    with pytest.raises(GdnbenchError, match=run_id):
        evaluate((root, "none"), corpus=books)


def test_a_run_without_its_checkpoint(tmp_path, books):
    (spec,) = specs(books)
    execute(spec, Store(tmp_path, "tiny"), Observer())
    with pytest.raises(GdnbenchError, match="keep_checkpoint"):
        evaluate((tmp_path, spec.run_id), corpus=books)


def test_a_damaged_checkpoint(tmp_path, books):
    (spec,) = specs(books, training={"keep_checkpoint": True})
    store = Store(tmp_path, "tiny")
    execute(spec, store, Observer())
    store.checkpoint_path(spec.run_id).write_bytes(b"x")
    with pytest.raises(GdnbenchError, match="damaged"):
        evaluate((tmp_path, spec.run_id), corpus=books)


def test_only_training_runs_have_a_model(tmp_path, books):
    arms = [{"name": "G", "arch": "gdn"}]
    decode = {"name": "d", "kind": "decode", "widths": [16], "contexts": [8], "arms": arms, "decode": {"tokens": 2}}
    (spec,) = specs(books, decode)
    execute(spec, Store(tmp_path, "tiny"), Observer())
    with pytest.raises(GdnbenchError):
        evaluate((tmp_path, spec.run_id), corpus=books)
