"""Evaluating a trained model on another text: the result is a record of its own, beside the run's."""

import dataclasses
import datetime
import math
import time
from pathlib import Path
from typing import Any

import torch

from gdnbench import data, environment
from gdnbench.configuration import digest
from gdnbench.errors import GdnbenchError, unknown
from gdnbench.evaluate.perplexity import METRICS, WordPerplexity, evaluate_wikitext
from gdnbench.evaluate.scoring import token_nll
from gdnbench.models import Decoder
from gdnbench.plan.spec import RunSpec
from gdnbench.results import Record, Store
from gdnbench.results.record import metric as entry
from gdnbench.results.store import open_set
from gdnbench.runs.rows import Rows
from gdnbench.runs.sources import source_digest
from gdnbench.runs.train import autocast
from gdnbench.runs.trained import load_trained, tokenizer_of

BATCH = 8


def evaluate_run(
    root: Path,
    set_name: str,
    run_id: str,
    *,
    corpus: str,
    metric: str,
    split: str,
    window: int | None,
    stride: int | None,
    carry_state: bool,
    out_of_domain: bool,
    max_tokens: int | None,
    training_corpus: str | None = None,
) -> Record:
    """Evaluate a run's model, store the result as a record of kind ``evaluation`` and return it.

    Args:
        root: folder of the result sets.
        set_name: the run's set.
        run_id: the run.
        corpus: what it is evaluated on.
        metric: ``loss`` or one of `gdnbench.evaluate.perplexity.METRICS`.
        split: split of the corpus.
        window: tokens of a window; None: the training length.
        stride: tokens scored by window; None: the window.
        carry_state: whether the state is carried from window to window.
        out_of_domain: whether a metric that is only for models trained on its corpus is wanted all the same.
        max_tokens: for ``loss``: only the first tokens of the split.
        training_corpus: the corpus of the training with the place of its files, which a tokenizer trained on it needs.

    Raises:
        GdnbenchError: the run, the corpus or the metric does not allow it.
    """
    store = open_set(root, set_name)
    trained, spec, model = load_trained(store, run_id)
    assert spec.training is not None
    window = window or spec.training.seq_len
    asked = {
        "corpus": data.corpus_label(corpus), "metric": metric, "split": split, "window": window,
        "stride": stride or window, "carry_state": carry_state, "max_tokens": max_tokens,
    }  # fmt: skip
    started, clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
    torch.set_num_threads(spec.threads)
    tokenizer = tokenizer_of(trained, training_corpus)
    with autocast(spec):
        if metric in METRICS:
            result = evaluate_wikitext(
                model,
                tokenizer,
                corpus,
                split,
                metric,
                window=window,
                stride=stride,
                trained_on=spec.data.corpus,
                batch_size=BATCH,
                carry_state=carry_state,
                out_of_domain=out_of_domain,
            )
            about, metrics = _word_metrics(result)
        else:
            about, metrics = _loss(model, tokenizer, spec, corpus, asked)
    return keep(
        store,
        trained,
        spec,
        model,
        kind="evaluation",
        of=metric,
        asked=asked,
        metrics=metrics,
        about=about,
        started=started,
        seconds=time.perf_counter() - clock,
    )


def keep(
    store: Store,
    trained: Record,
    spec: RunSpec,
    model: Decoder,
    *,
    kind: str,
    of: str,
    asked: dict[str, Any],
    metrics: dict[str, dict[str, Any]],
    about: dict[str, Any],
    started: datetime.datetime,
    seconds: float,
) -> Record:
    """Store and return the record of an evaluation of a trained run.

    Args:
        store: the set that takes it.
        trained: the run's record.
        spec: the run's specification, as the model was loaded by it.
        model: the run's model.
        kind: of the record.
        of: what was evaluated, in a word, for the record's id.
        asked: all that determines the result.
        metrics: the result.
        about: what else is known of it.
        started: when the evaluation began.
        seconds: how long it took.
    """
    record = dataclasses.replace(
        trained,
        run_id=f"{kind}-{of}-{digest([trained.run_id, asked])[:10]}",
        kind=kind,
        spec={**trained.spec, "experiment": kind},
        outcome="finished",
        detail="",
        metrics=metrics,
        source_digest=source_digest(spec.model),
        data={**about, "trained_on": trained.data},
        environment={**environment.describe(spec.device), "threads": spec.threads, "backends": model.backends()},
        started=started.isoformat(timespec="seconds"),
        duration_s=round(seconds, 3),
        notes=(f"evaluates {trained.run_id} with {asked}",),
    )
    with store.lease(record.run_id):
        Rows(store.rows_path(record.run_id), 0).close()
        store.write(record)
    return record


def _word_metrics(result: WordPerplexity) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    metrics = {
        result.metric: entry(result.value, f"perplexity by {result.denominator_name}"),
        "bits_per_byte": entry(result.bits_per_byte, f"bit by {result.bytes_name}"),
        "denominator": entry(result.denominator, result.denominator_name),
        "excluded": entry(result.excluded, "<unk> word"),
    }
    return result.about(), metrics


def _loss(
    model: Decoder, tokenizer: data.Tokenizer, spec: RunSpec, corpus: str, asked: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return loss and bits per byte over a split, in the tokens of the training corpus."""
    if asked["metric"] != "loss":
        raise unknown("metric", asked["metric"], [*METRICS, "loss"])
    documents = data.open_corpus(corpus)
    tokens = tokenizer.encode("\n\n".join(documents.documents(asked["split"])))[: asked["max_tokens"]]
    if not len(tokens):
        raise GdnbenchError(f"{asked['corpus']} {asked['split']}: no token to score")

    scores = token_nll(
        model,
        tokens,
        separator=tokenizer.separator,
        window=asked["window"],
        stride=asked["stride"],
        batch_size=BATCH,
        carry_state=asked["carry_state"],
    )
    size = int(tokenizer.byte_lengths[tokens].sum())
    about = {**asked, "document_start": "the separator once, before the split as one stream", "tokens": len(tokens)}
    about["out_of_domain"] = asked["corpus"] != spec.data.corpus
    total = float(scores.sum())
    metrics = {
        "loss": entry(total / len(tokens), "nat/token"),
        "bits_per_byte": entry(total / math.log(2) / size, "bit/byte"),
    }
    return about, metrics
