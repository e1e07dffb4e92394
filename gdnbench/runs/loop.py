"""Running a training specification to its end, from its checkpoint if it has one."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gdnbench.configuration import canonical_json
from gdnbench.data import TokenizedCorpus
from gdnbench.errors import GdnbenchError
from gdnbench.evaluate.scoring import token_nll
from gdnbench.evaluate.validation import validation_loss
from gdnbench.files import set_aside
from gdnbench.measure import memory
from gdnbench.plan.budgets import counts
from gdnbench.plan.spec import RunSpec
from gdnbench.results import Store
from gdnbench.results.record import metric
from gdnbench.runs import checkpoint
from gdnbench.runs.progress import Beat, Interrupted, Observer
from gdnbench.runs.rows import Rows
from gdnbench.runs.train import Trainer

Metrics = dict[str, dict[str, Any]]


@dataclass
class Result:
    """What a run measured, before it becomes a record."""

    metrics: Metrics
    outcome: str = "finished"
    detail: str = ""
    notes: list[str] = field(default_factory=list)
    started: str = ""
    seconds: float = 0.0


def train(
    spec: RunSpec,
    corpus: TokenizedCorpus,
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
        GdnbenchError: the checkpoint belongs to other sources and that was not accepted, or the disk is full.
    """
    memory.reset_peak(spec.device)
    trainer = Trainer(spec, corpus)
    result = Result(metrics={}, started=started)
    saved = _resume(spec, store, trainer, result, digest, corpus.corpus_hash, changed_code)
    rows = Rows(store.rows_path(spec.run_id), saved)
    path = store.checkpoint_path(spec.run_id)

    def save() -> None:
        content: dict[str, Any] = {
            "digest": digest,
            "corpus_hash": corpus.corpus_hash,
            "spec": canonical_json(spec.placeless()),
        }
        content |= {"rows_bytes": rows.flush(), **trainer.state()}
        content |= {"notes": result.notes, "started": result.started, "peak_gib": _peak(spec, result)}
        checkpoint.save(path, content)

    try:
        _run(spec, trainer, rows, observer, save, result)
        if spec.training and spec.training.keep_checkpoint and result.outcome == "finished":
            save()
    finally:
        rows.close()
    if result.outcome == "finished":
        measured = _evaluate(spec, trainer, corpus)
        if not math.isfinite(measured["val_loss"]["value"] if "val_loss" in measured else 0.0):
            result.outcome, result.detail = "diverged", "the validation loss is not finite"
        # JSON has no infinity: a text without white space has no word perplexity.
        result.metrics |= {name: entry for name, entry in measured.items() if math.isfinite(entry["value"])}
    result.metrics |= _sizes(spec, trainer) | {"peak_gib": metric(_peak(spec, result), "GiB")}
    result.seconds = trainer.seconds
    return result


def _resume(
    spec: RunSpec, store: Store, trainer: Trainer, result: Result, digest: str, corpus_hash: str, changed_code: str
) -> int:
    """Restore the trainer from the run's checkpoint, if any; return the good bytes of its rows."""
    path = store.checkpoint_path(spec.run_id)
    try:
        saved = checkpoint.load(path)
        if saved is not None and _size(store.rows_path(spec.run_id)) < saved["rows_bytes"]:
            raise checkpoint.Corrupt(f"{path.name}: metrics.jsonl is shorter than it was when this was written")
    except checkpoint.Corrupt as problem:
        result.notes.append(f"began again: {problem}; set aside as {set_aside(path).name}")
        return 0
    if saved is None:
        return 0
    if saved["corpus_hash"] != corpus_hash:
        raise GdnbenchError(
            f"{spec.run_id}: its checkpoint was trained on another content of corpus {spec.data.corpus} "
            f"({saved['corpus_hash'][:10]}, now {corpus_hash[:10]}); put the text back, or remove its checkpoint"
        )
    note = f"resumed at step {saved['step']}"
    if saved["digest"] != digest:
        if changed_code == "refuse":
            raise GdnbenchError(
                f"{spec.run_id}: its checkpoint was written by other source files ({saved['digest'][:10]}, now "
                f"{digest[:10]}); --changed-code accept goes on with it and records that, --changed-code restart "
                "begins it again"
            )
        if changed_code == "restart":
            return 0
        note += f" under sources {digest[:10]}, begun under {saved['digest'][:10]}"
    trainer.restore(saved)
    result.notes += [*saved["notes"], note]
    result.started = saved["started"]
    result.metrics["peak_gib"] = metric(saved["peak_gib"], "GiB")
    return int(saved["rows_bytes"])


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _run(
    spec: RunSpec, trainer: Trainer, rows: Rows, observer: Observer, save: Callable[[], None], result: Result
) -> None:
    """Advance to the end, to divergence, or to an interruption."""
    assert spec.training is not None
    while trainer.fraction < 1.0:
        if observer.stop():
            save()
            raise Interrupted(spec.run_id)
        row = trainer.advance()
        problem = trainer.problem()
        last = trainer.fraction >= 1.0
        if trainer.step % spec.training.log_every == 0 or trainer.step == 1 or last or problem:
            # JSON has no NaN: a diverged step's numbers are left out of its row.
            numbers = {
                key: value for key, value in row.items() if value == value and abs(_number(value)) != float("inf")
            }
            rows.append({**numbers, "tokens_per_s": trainer.tokens_per_s})
        observer.beat(
            Beat(run_id=spec.run_id, fraction=trainer.fraction, loss=row["loss"], tokens_per_s=trainer.tokens_per_s)
        )
        if problem:
            result.outcome, result.detail = "diverged", problem
            return
        if trainer.step % spec.training.checkpoint_every == 0 and not last:
            save()


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _evaluate(spec: RunSpec, trainer: Trainer, corpus: TokenizedCorpus) -> Metrics:
    """Return loss per token, bits per byte and word perplexity on each split; the train loss over the last tenth."""
    assert spec.training is not None
    metrics: Metrics = {}
    for split in spec.evaluation.splits:
        loss = validation_loss(
            trainer.model,
            corpus.split(split).tokens,
            tokenizer=corpus.tokenizer,
            seq_len=spec.training.seq_len,
            batch_size=spec.training.batch_size,
            sequences=spec.evaluation.sequences,
        )
        prefix = "" if split == "valid" else f"{split}_"
        metrics |= {
            "val_loss" if split == "valid" else f"{split}_loss": metric(loss.loss, "nat/token"),
            f"{prefix}bits_per_byte": metric(loss.bits_per_byte, "bit/byte"),
            f"{prefix}whitespace_word_ppl": metric(loss.whitespace_word_ppl, "perplexity by whitespace word"),
        }
    if spec.evaluation.carry_state:
        metrics |= _carried(spec, trainer, corpus)
    tail = trainer.losses[-max(1, len(trainer.losses) // 10) :]
    metrics["train_loss"] = metric(sum(tail) / len(tail), "nat/token")
    return metrics


def _carried(spec: RunSpec, trainer: Trainer, corpus: TokenizedCorpus) -> Metrics:
    """Return the loss on one stretch of text in windows, with the state carried between them and without."""
    assert spec.training is not None
    window = spec.training.seq_len
    tokens = corpus.split("valid").tokens[: max(1, spec.evaluation.sequences // 4) * window]
    metrics = {}
    for name, carry in (("carried_val_loss", True), ("uncarried_val_loss", False)):
        scores = token_nll(
            trainer.model,
            tokens,
            separator=corpus.tokenizer.separator,
            window=window,
            stride=window,
            batch_size=1 if carry else spec.training.batch_size,
            carry_state=carry,
        )
        metrics[name] = metric(float(scores.mean()), "nat/token")
    return metrics


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
    if trainer.tokens_per_s is not None:
        metrics["tokens_per_s"] = metric(trainer.tokens_per_s, "token/s")
    if spec.matched is not None:
        metrics["match_deviation"] = metric(spec.matched.deviation, "relative")
    return metrics


def _peak(spec: RunSpec, result: Result) -> float:
    """Return the highest peak over all parts of an interrupted run."""
    before = result.metrics.get("peak_gib", {"value": 0.0})["value"]
    return max(before, memory.peak_gib(spec.device))
