"""What is measured of a model when its training is over: losses, scores by document, other corpora."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gdnbench.data import TokenizedCorpus, corpus_label, open_corpus
from gdnbench.data.corpora import corpus_name
from gdnbench.data.overlap import corpus_overlap
from gdnbench.data.tasks import Task, TaskCorpus
from gdnbench.evaluate.answers import answer
from gdnbench.evaluate.documents import DocumentScore, bits_per_byte, document_scores, split_documents, token_loss
from gdnbench.evaluate.perplexity import RAW, V1, evaluate_wikitext
from gdnbench.evaluate.positions import losses_at, position_bins
from gdnbench.evaluate.scoring import token_nll
from gdnbench.evaluate.validation import validation_loss
from gdnbench.models import Decoder
from gdnbench.plan.spec import RunSpec
from gdnbench.results.record import metric
from gdnbench.runs.train import autocast

Metrics = dict[str, dict[str, Any]]
ALSO_SPLIT = "test"  # of the other corpora
CHOOSES = "valid"  # the split by which learning rates are chosen, so that it compares nothing: not scored by document


@dataclass
class Scores:
    """What was measured.

    Attributes:
        metrics: metrics of the record.
        rows: a row of its ``metrics.jsonl`` for each document.
        data: for the record's data: ``also`` (what other corpora were scored, and how) and ``overlap``.
    """

    metrics: Metrics = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def add(self, metrics: Metrics, rows: Sequence[dict[str, Any]] = ()) -> None:
        """Take in what another measurement found."""
        self.metrics |= metrics
        self.rows += rows


def score(spec: RunSpec, model: Decoder, corpus: TokenizedCorpus | TaskCorpus) -> Scores:
    """Measure a trained model as its specification asks; under autocast where it was trained so."""
    if isinstance(corpus, TaskCorpus):
        with autocast(spec):
            return _task(spec, model, corpus.task)
    found, also = Scores(), {}
    with autocast(spec):
        for split in spec.evaluation.splits:
            found.add(_windows(spec, model, corpus, split))
            if spec.evaluation.documents and split != CHOOSES:
                found.add(*_documents(spec, model, corpus, split))
        if spec.evaluation.carry_state:
            found.add(_carried(spec, model, corpus))
        if spec.evaluation.lengths:
            found.add(*_lengths(spec, model, corpus))
        for other in spec.evaluation.also:
            metrics, rows, also[corpus_label(other)] = _also(spec, model, corpus, other)
            found.add(metrics, rows)
    found.data |= {"also": also} if also else {}
    if spec.evaluation.documents:
        found.data["overlap"] = _overlap(spec, found.rows)
    return found


def _overlap(spec: RunSpec, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how much of each text stands in the train split, and add each document's share of that to its row."""
    others = {corpus_label(name): open_corpus(name) for name in spec.evaluation.also}
    found = corpus_overlap(open_corpus(spec.data.corpus), others)
    own, sizes = spec.data.placeless().corpus, Counter((row["corpus"], row["split"]) for row in rows)
    for row in rows:
        name = row["split"] if row["corpus"] == own else f"{row['corpus']} {row['split']}"
        shares = found[name]["shares"]
        # Some conventions cut a text into other documents than the corpus does.
        if sizes[row["corpus"], row["split"]] == len(shares):
            row["in_train"] = shares[row["document"]]
    return {name: {key: value for key, value in entry.items() if key != "shares"} for name, entry in found.items()}


def _windows(spec: RunSpec, model: Decoder, corpus: TokenizedCorpus, split: str) -> Metrics:
    """Return loss per token, bits per byte and word perplexity on fixed windows of a split."""
    assert spec.training is not None
    loss = validation_loss(
        model,
        corpus.split(split).tokens,
        tokenizer=corpus.tokenizer,
        seq_len=spec.training.seq_len,
        batch_size=spec.training.batch_size,
        sequences=spec.evaluation.sequences,
    )
    prefix = "" if split == "valid" else f"{split}_"
    return {
        "val_loss" if split == "valid" else f"{split}_loss": metric(loss.loss, "nat/token"),
        f"{prefix}bits_per_byte": metric(loss.bits_per_byte, "bit/byte"),
        f"{prefix}whitespace_word_ppl": metric(loss.whitespace_word_ppl, "perplexity by whitespace word"),
    }


def _documents(
    spec: RunSpec, model: Decoder, corpus: TokenizedCorpus, split: str
) -> tuple[Metrics, list[dict[str, Any]]]:
    """Return the metrics of a whole split, every document from its start, and a row for each."""
    documents = split_documents(corpus.split(split).tokens, corpus.tokenizer.separator)
    scores = _by_document(spec, model, corpus, documents)
    return _totals(f"{split}_documents", scores), _rows(spec.data.placeless().corpus, split, scores)


def _also(
    spec: RunSpec, model: Decoder, corpus: TokenizedCorpus, other: str
) -> tuple[Metrics, list[dict[str, Any]], dict[str, Any]]:
    """Return metrics, rows and a description of another corpus' test split.

    WikiText-103 is scored by the convention that suits the training: with ``<unk>`` as a word for models that were
    trained on it, without these words for all others; its raw form by lm-eval's.
    """
    assert spec.training is not None
    name, label = corpus_name(other), corpus_label(other)
    prefix = label.replace(":", "_").replace("-", "_")
    if name not in (V1, RAW):
        documents = corpus.tokenizer.encode_batch(list(open_corpus(other).documents(ALSO_SPLIT)))
        scores = _by_document(spec, model, corpus, documents)
        about = {"split": ALSO_SPLIT, "out_of_domain": label != spec.data.placeless().corpus}
        return _totals(prefix, scores), _rows(label, ALSO_SPLIT, scores), about
    trained_on_v1 = corpus_name(spec.data.corpus) == V1
    convention = "lmeval_word_ppl" if name == RAW else "wt103_token_ppl" if trained_on_v1 else "wt103_nounk_ppl"
    found = evaluate_wikitext(
        model,
        corpus.tokenizer,
        other,
        ALSO_SPLIT,
        convention,
        window=spec.training.seq_len,
        trained_on=spec.data.corpus,
        batch_size=spec.training.batch_size,
    )
    metrics = _totals(prefix, found.by_document)
    metrics |= {convention: metric(found.value, f"perplexity by {found.denominator_name}")}
    return metrics, _rows(label, ALSO_SPLIT, found.by_document), found.about()


def _by_document(
    spec: RunSpec, model: Decoder, corpus: TokenizedCorpus, documents: Sequence[Any]
) -> list[DocumentScore]:
    assert spec.training is not None
    window, batch_size = spec.training.seq_len, spec.training.batch_size
    return document_scores(model, documents, tokenizer=corpus.tokenizer, window=window, batch_size=batch_size)


def _totals(prefix: str, scores: Sequence[DocumentScore]) -> Metrics:
    return {
        f"{prefix}_loss": metric(token_loss(scores), "nat/token"),
        f"{prefix}_bits_per_byte": metric(bits_per_byte(scores), "bit/byte"),
    }


def _rows(label: str, split: str, scores: Sequence[DocumentScore]) -> list[dict[str, Any]]:
    about = {"type": "document", "corpus": label, "split": split}
    return [{**about, "document": place, **dataclasses.asdict(score)} for place, score in enumerate(scores)]


def _task(spec: RunSpec, model: Decoder, task: Task) -> Scores:
    """Return loss and accuracy on sequences as in the training, and the accuracy in each of a task's cases.

    Without a prefix, numbers are those of the test sequences; learning rates are chosen by the valid ones.
    """
    assert spec.training is not None
    rows, training = spec.evaluation.sequences, spec.training
    found, tokens = Scores(), training.batch_size * training.seq_len
    for split, loss, accuracy in (("valid", "val_loss", "val_accuracy"), ("test", "test_loss", "accuracy")):
        got = answer(model, task.held_out(split, rows, training.seq_len), batch_tokens=tokens)
        found.add({loss: metric(got.loss, "nat/answer"), accuracy: metric(got.accuracy, "right/answer")})
    digests = {}
    for case in task.cases(training.seq_len, spec.evaluation.lengths):
        drawn = case.task.held_out("test", rows, case.seq_len)
        got = answer(model, drawn, batch_tokens=tokens, first=case.first)
        found.add({case.metric: metric(got.accuracy, "right/answer")})
        digests[case.metric] = drawn.digest()
    found.data["test_sequences"] = digests
    return found


def _lengths(spec: RunSpec, model: Decoder, corpus: TokenizedCorpus) -> tuple[Metrics, list[dict[str, Any]]]:
    """Return the loss of one text in windows of each length, and a row for each bin of positions in the longest."""
    assert spec.training is not None
    split, lengths = spec.evaluation.splits[-1], spec.evaluation.lengths
    losses = losses_at(
        model,
        corpus.split(split).tokens,
        lengths=lengths,
        sequences=max(1, spec.evaluation.sequences * spec.training.seq_len // max(lengths)),
        batch_tokens=spec.training.batch_size * spec.training.seq_len,
    )
    metrics = {f"loss_at_{length}": metric(float(found.mean()), "nat/token") for length, found in losses.items()}
    about = {"type": "position", "split": split}
    bins = [dataclasses.asdict(entry) for entry in position_bins(losses)]
    return metrics, [{**about, **entry} for entry in bins]


def _carried(spec: RunSpec, model: Decoder, corpus: TokenizedCorpus) -> Metrics:
    """Return the loss on one stretch of text in windows, with the state carried between them and without."""
    assert spec.training is not None
    window = spec.training.seq_len
    tokens = corpus.split("valid").tokens[: max(1, spec.evaluation.sequences // 4) * window]
    metrics = {}
    for name, carry in (("carried_val_loss", True), ("uncarried_val_loss", False)):
        scores = token_nll(
            model,
            tokens,
            separator=corpus.tokenizer.separator,
            window=window,
            stride=window,
            batch_size=1 if carry else spec.training.batch_size,
            carry_state=carry,
        )
        metrics[name] = metric(float(scores.mean()), "nat/token")
    return metrics
