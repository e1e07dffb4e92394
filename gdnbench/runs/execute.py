"""One run from specification to stored record, whatever its kind."""

import datetime
import math
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from gdnbench_kernels.backends import BackendUnavailable

from gdnbench import data, environment
from gdnbench.configuration import to_mapping
from gdnbench.data import TokenizedCorpus
from gdnbench.data.tasks import TaskCorpus
from gdnbench.errors import GdnbenchError
from gdnbench.files import remove_temporary
from gdnbench.measure import coordinates, decode, memory
from gdnbench.models.decoder import on_meta
from gdnbench.plan import estimate
from gdnbench.plan.budgets import counts
from gdnbench.plan.spec import Data, RunSpec
from gdnbench.results import Record, Store
from gdnbench.results.record import metric
from gdnbench.runs.loop import Result, train
from gdnbench.runs.progress import Beat, Observer
from gdnbench.runs.rows import Rows
from gdnbench.runs.scores import ALSO_SPLIT
from gdnbench.runs.sources import source_digest
from gdnbench.runs.train import autocast, build_model, build_optimizer, in_force


def execute(
    spec: RunSpec,
    store: Store,
    observer: Observer,
    *,
    changed_code: str = "refuse",
    about: Mapping[str, Any] | None = None,
) -> Record | None:
    """Run one specification, unless its record exists by now, and store its record.

    Args:
        spec: what to run.
        store: where.
        observer: told of progress, asked whether to stop.
        changed_code: what to do with a checkpoint that other sources wrote (`gdnbench.runs.loop.train`).
        about: facts of the circumstances for the record's environment (how many runs shared the machine).

    Returns:
        The new record, or None if another process had stored it before this one got the lease.

    Raises:
        Busy: another process is on it.
        Interrupted: asked to stop.
        GdnbenchError: the device, backend, data or disk does not allow it.
    """
    with store.lease(spec.run_id):
        if store.read(spec.run_id, leased=True) is not None:
            return None
        environment.check_device(spec.device, spec.dtype)
        remove_temporary(store.run_folder(spec.run_id))
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        clock, digest = time.perf_counter(), source_digest(spec.model)
        corpus = corpus_of(spec.data, spec.evaluation.splits)
        _check_vocabulary(spec, corpus)
        _check_others(spec)
        try:
            result = _measure(spec, corpus, store, observer, digest, changed_code, started)
        except BackendUnavailable as error:
            raise GdnbenchError(str(error)) from error
        except torch.OutOfMemoryError as error:
            raise GdnbenchError(_out_of_memory(spec)) from error
        result.metrics |= _beside(result, time.perf_counter() - clock)
        seconds = result.seconds or time.perf_counter() - clock
        record = _record(spec, corpus, store, result, digest, seconds, dict(about or {}))
        store.write(record)
        if spec.training is not None and not spec.training.keep_checkpoint:
            store.checkpoint_path(spec.run_id).unlink(missing_ok=True)
        return record


@cache
def load_corpus(name: str, tokenizer: str, splits: tuple[str, ...], tokenizer_corpus: str = "") -> TokenizedCorpus:
    """Return a text with its train split and the given ones, once a process."""
    splits = tuple(dict.fromkeys(("train", *splits)))
    return data.load(name, tokenizer, splits, tokenizer_corpus=tokenizer_corpus)


def corpus_of(named: Data, splits: tuple[str, ...]) -> TokenizedCorpus | TaskCorpus:
    """Return what a run is trained on: a text with these splits, or a task."""
    if named.task is not None:
        return TaskCorpus(named.corpus, named.task)
    return load_corpus(named.corpus, named.tokenizer, splits, named.tokenizer_corpus)


def _beside(result: Result, wall: float) -> dict[str, dict[str, Any]]:
    """Return the seconds that a training run took beside its steps at their usual speed, unless it was interrupted."""
    speed, trained = result.metrics.get("tokens_per_s"), result.metrics.get("train_tokens")
    if speed is None or trained is None or result.resumed:
        return {}
    tokens = trained["value"]
    tokens -= result.metrics.get("inherited_tokens", {"value": 0})["value"]
    return {"beside_s": metric(max(0.0, wall - tokens / speed["value"]), "s")}


def _out_of_memory(spec: RunSpec) -> str:
    """Return the line on a GPU that was too small: what was asked of it, and what would fit."""
    held, total = torch.cuda.max_memory_reserved() / 2**30, torch.cuda.mem_get_info()[1] / 2**30
    torch.cuda.empty_cache()
    passed, fits = estimate.micro_batch_that_fits(spec, total, held)
    remedy = f"execution: {{micro_batch: {fits}}} would fit" if fits else "not even one would fit"
    return (
        f"{spec.run_id}: out of GPU memory with {passed} sequences a pass ({total:.1f} GiB in all, {held:.1f} held by "
        f"this run): {remedy}, by formula, and goes on with what was saved; so may {{recompute: cheap}} or fewer "
        "--workers"
    )


def _check_others(spec: RunSpec) -> None:
    """Open the corpora that the run evaluates at its end, so that a missing one is told before the training."""
    for name in spec.evaluation.also:
        data.open_corpus(name).source(ALSO_SPLIT)


def _measure(
    spec: RunSpec,
    corpus: TokenizedCorpus | TaskCorpus,
    store: Store,
    observer: Observer,
    digest: str,
    changed_code: str,
    started: str,
) -> Result:
    if spec.kind == "train":
        return train(spec, corpus, store, observer, digest=digest, changed_code=changed_code, started=started)
    assert isinstance(corpus, TokenizedCorpus)
    result = (_coordinates if spec.kind == "coord_check" else _decode)(spec, corpus, store, observer)
    result.started = started
    return result


def _coordinates(spec: RunSpec, corpus: TokenizedCorpus, store: Store, observer: Observer) -> Result:
    """Run a coordinate check; its sizes are the run's rows."""
    assert spec.coordinates is not None
    options = spec.coordinates
    model = build_model(spec)
    tokens = _windows(corpus, options.batch_size, options.seq_len + 1).to(spec.device)
    sizes = coordinates.check(
        model,
        tokens,
        build_optimizer(spec, model, weight_decay=0.0),
        options.after_steps,
        lambda fraction: observer.beat(Beat(run_id=spec.run_id, fraction=fraction)),
        forward=lambda: autocast(spec),
    )
    result = Result(metrics=_parameters(spec, options.seq_len))
    finite = [row for row in sizes if all(math.isfinite(x) for x in row.values() if isinstance(x, float))]
    if len(finite) < len(sizes):
        # JSON has no NaN: sizes that are no numbers are left out, and the run is marked.
        result.outcome, result.detail = "diverged", f"{len(sizes) - len(finite)} of {len(sizes)} sizes are not finite"
    rows = Rows(store.rows_path(spec.run_id), 0)
    for row in finite:
        rows.append({"type": "coordinate", **row})
    rows.close()
    return result


def _decode(spec: RunSpec, corpus: TokenizedCorpus, store: Store, observer: Observer) -> Result:
    """Measure generation after a prompt from the corpus."""
    assert spec.decode is not None
    options = spec.decode
    not_reset = memory.reset_peak(spec.device)
    model = build_model(spec)
    prompt = _windows(corpus, options.batch_size, options.context).to(spec.device)
    speed = decode.measure(
        model,
        prompt,
        options.tokens,
        lambda fraction: observer.beat(Beat(run_id=spec.run_id, fraction=fraction)),
        dtype=getattr(torch, spec.dtype),
    )
    Rows(store.rows_path(spec.run_id), 0).close()
    weights = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**30
    return Result(
        metrics={
            **_parameters(spec, options.context),
            "tokens_per_s": metric(speed.tokens_per_s, "token/s"),
            "prefill_tokens_per_s": metric(speed.prefill_tokens_per_s, "token/s"),
            "ms_per_token_p50": metric(speed.ms_per_token_p50, "ms"),
            "ms_per_token_p99": metric(speed.ms_per_token_p99, "ms"),
            "state_bytes": metric(speed.state_bytes, "byte"),
            "weights_gib": metric(weights, "GiB"),
            "peak_gib": metric(memory.peak_gib(spec.device), "GiB"),
        },
        notes=list(not_reset),
    )


def _windows(corpus: TokenizedCorpus, count: int, length: int) -> torch.Tensor:
    """Return the first ``count`` windows of the validation split: the same for every model."""
    tokens = corpus.split("valid").tokens
    if len(tokens) < count * length:
        raise GdnbenchError(f"the validation split has {len(tokens)} tokens, {count} x {length} are needed")
    return torch.from_numpy(tokens[: count * length].astype("int64")).view(count, length)


def _parameters(spec: RunSpec, seq_len: int) -> dict[str, dict[str, Any]]:
    sizes = counts(spec.model, seq_len)
    return {
        "params_total": metric(sizes.params_total, "parameter"),
        "params_non_embedding": metric(sizes.params_non_embedding, "parameter"),
    }


def _check_vocabulary(spec: RunSpec, corpus: TokenizedCorpus | TaskCorpus) -> None:
    if corpus.vocab_size > spec.model.vocab_size:
        raise GdnbenchError(
            f"{spec.run_id}: tokenizer {spec.data.tokenizer} has {corpus.vocab_size} tokens, the model a vocabulary of "
            f"{spec.model.vocab_size}; set model.vocab_size to {corpus.vocab_size} or more"
        )


def _record(
    spec: RunSpec,
    corpus: TokenizedCorpus | TaskCorpus,
    store: Store,
    result: Result,
    digest: str,
    seconds: float,
    about: dict[str, Any],
) -> Record:
    return Record(
        run_id=spec.run_id,
        set=store.name,
        kind=spec.kind,
        outcome="diverged" if result.outcome == "diverged" else "finished",
        detail=result.detail,
        spec=to_mapping(spec.placeless()),
        metrics=result.metrics,
        rows_sha256="",
        source_digest=digest,
        data={
            "corpus": spec.data.placeless().corpus,
            "corpus_hash": corpus.corpus_hash,
            "tokenizer": spec.data.placeless().tokenizer,
            "tokenizer_hash": corpus.tokenizer_hash,
            **corpus.metadata,
            **result.data,
        },
        environment={
            **environment.describe(spec.device),
            "threads": torch.get_num_threads(),
            "backends": on_meta(spec.model).backends(),
            **({"execution": to_mapping(in_force(spec))} if spec.training is not None else {}),
            **about,
        },
        started=result.started,
        duration_s=round(seconds, 3),
        notes=tuple(result.notes),
    )
