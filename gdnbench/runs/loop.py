"""Running a training specification to its end, from its checkpoint if it has one."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gdnbench.configuration import canonical_json
from gdnbench.data import TokenizedCorpus
from gdnbench.data.tasks import TaskCorpus
from gdnbench.measure import memory
from gdnbench.plan.budgets import counts
from gdnbench.plan.spec import RunSpec
from gdnbench.results import Store
from gdnbench.results.record import metric
from gdnbench.runs import checkpoint
from gdnbench.runs.beginning import begin
from gdnbench.runs.progress import Beat, Interrupted, Observer
from gdnbench.runs.rows import Rows
from gdnbench.runs.scores import score
from gdnbench.runs.train import Trainer

Metrics = dict[str, dict[str, Any]]


@dataclass
class Result:
    """What a run measured, before it becomes a record."""

    metrics: Metrics
    outcome: str = "finished"
    detail: str = ""
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0
    resumed: bool = False


def train(
    spec: RunSpec,
    corpus: TokenizedCorpus | TaskCorpus,
    store: Store,
    observer: Observer,
    *,
    digest: str,
    changed_code: str,
    started: str,
) -> Result:
    """Train, evaluate and return the metrics; ``metrics.jsonl`` is complete and on the disk afterwards.

    Args:
        spec: a training run, whose lease the caller holds.
        corpus: its data.
        store: where its checkpoint and rows lie.
        observer: told of progress, asked whether to stop.
        digest: digest of the sources of this process.
        changed_code: ``refuse``, ``accept`` or ``restart`` a checkpoint that other sources wrote.
        started: time of this start, UTC.

    Raises:
        Interrupted: asked to stop; a checkpoint was saved.
        GdnbenchError: a checkpoint cannot be gone on with (`gdnbench.runs.beginning.begin`), or the disk is full.
    """
    not_reset = memory.reset_peak(spec.device)
    trainer = Trainer(spec, corpus)
    begun = begin(spec, store, trainer, corpus, digest=digest, changed_code=changed_code)
    notes = list(dict.fromkeys([*begun.notes, *not_reset]))
    result = Result(metrics={"peak_gib": metric(begun.peak_gib, "GiB")}, notes=notes)
    result.started, result.resumed = begun.started or started, bool(begun.started)
    rows = Rows(store.rows_path(spec.run_id), begun.rows_bytes)

    def save(path: Path) -> None:
        content: dict[str, Any] = {
            "digest": digest,
            "corpus_hash": corpus.corpus_hash,
            "tokenizer_hash": corpus.tokenizer_hash,
            "spec": canonical_json(spec.placeless()),
        }
        content |= {"rows_bytes": rows.flush(), **trainer.state()}
        content |= {"notes": result.notes, "started": result.started, "peak_gib": _peak(spec, result)}
        checkpoint.save(path, content)

    try:
        if begun.diverged:
            result.outcome, result.detail = "diverged", begun.diverged
        else:
            _run(spec, trainer, rows, observer, store, save, result)
        if spec.training and spec.training.keep_checkpoint and result.outcome == "finished":
            save(store.checkpoint_path(spec.run_id))
        if result.outcome == "finished":
            _measure(spec, trainer, corpus, rows, result)
    finally:
        rows.close()
    result.metrics |= _sizes(spec, trainer) | {"peak_gib": metric(_peak(spec, result), "GiB")}
    result.seconds = trainer.seconds
    return result


def _run(
    spec: RunSpec,
    trainer: Trainer,
    rows: Rows,
    observer: Observer,
    store: Store,
    save: Callable[[Path], None],
    result: Result,
) -> None:
    """Advance to the end, to divergence, or to an interruption."""
    assert spec.training is not None
    own = store.checkpoint_path(spec.run_id)
    while trainer.fraction < 1.0:
        if observer.stop():
            save(own)
            raise Interrupted(spec.run_id)
        trainer.advance()
        last = trainer.fraction >= 1.0
        logs = trainer.step % spec.training.log_every == 0 or trainer.step == 1 or last
        keeps = trainer.step in spec.training.keep_at
        saves = trainer.step % spec.training.checkpoint_every == 0 and not last
        # To look at losses is to wait for a GPU: only where they, or what led to them, are written down.
        problem = trainer.problem() if logs or keeps or saves else None
        if logs or problem:
            rows.append({**_finite(trainer.row()), "tokens_per_s": trainer.tokens_per_s})
        speed, loss = trainer.tokens_per_s, trainer.known_loss
        observer.beat(Beat(run_id=spec.run_id, fraction=trainer.fraction, loss=loss, tokens_per_s=speed))
        if problem:
            result.outcome, result.detail = "diverged", problem
            return
        if keeps:
            save(store.kept_path(spec.run_id, trainer.step))
        if saves:
            save(own)


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without numbers that JSON does not have: a diverged step's."""
    return {key: value for key, value in row.items() if not isinstance(value, float) or math.isfinite(value)}


def _measure(spec: RunSpec, trainer: Trainer, corpus: TokenizedCorpus | TaskCorpus, rows: Rows, result: Result) -> None:
    """Take in what the trained model is worth, and the train loss over the last tenth of the steps."""
    found = score(spec, trainer.model, corpus)
    tail = trainer.losses[-max(1, len(trainer.losses) // 10) :]
    found.add({"train_loss": metric(sum(tail) / len(tail), "nat/token")})
    # JSON has no infinity: a text without white space has no word perplexity.
    finite = {name: entry for name, entry in found.metrics.items() if math.isfinite(entry["value"])}
    if "val_loss" in found.metrics and "val_loss" not in finite:
        result.outcome, result.detail = "diverged", "the validation loss is not finite"
    result.metrics |= finite
    result.data = found.data
    for row in found.rows:
        if math.isfinite(row["nll" if row["type"] == "document" else "loss"]):
            rows.append(row)


def _sizes(spec: RunSpec, trainer: Trainer) -> Metrics:
    """Return what the model has and what the run used."""
    assert spec.training is not None
    sizes = counts(spec.model, spec.training.seq_len)
    tokens = trainer.step * trainer.tokens_per_step
    metrics = {
        "params_total": metric(sizes.params_total, "parameter"),
        "params_non_embedding": metric(sizes.params_non_embedding, "parameter"),
        "flops_per_token": metric(sizes.train_flops_per_token, "FLOP/token"),
        "state_bytes": metric(sizes.state_bytes, "byte/sequence"),
        "train_tokens": metric(tokens, "token"),
        "train_flops": metric(tokens * sizes.train_flops_per_token, "FLOP"),
        "epochs": metric(trainer.sampler.epochs(trainer.step), "epoch"),
    }
    if spec.first_step:
        metrics["inherited_tokens"] = metric(spec.first_step * trainer.tokens_per_step, "token")
    if trainer.tokens_per_s is not None:
        metrics["tokens_per_s"] = metric(trainer.tokens_per_s, "token/s")
    if spec.matched is not None:
        metrics["match_deviation"] = metric(spec.matched.deviation, "relative")
    return metrics


def _peak(spec: RunSpec, result: Result) -> float:
    """Return the highest peak over all parts of an interrupted run."""
    before = result.metrics.get("peak_gib", {"value": 0.0})["value"]
    return max(before, memory.peak_gib(spec.device))
