"""Where a training run begins: at its own checkpoint, at another run's, or at step 0."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gdnbench.data import TokenizedCorpus
from gdnbench.data.tasks import TaskCorpus
from gdnbench.errors import GdnbenchError
from gdnbench.files import set_aside
from gdnbench.plan.spec import Origin, RunSpec
from gdnbench.results import Store
from gdnbench.runs import checkpoint
from gdnbench.runs.origins import diverged_before
from gdnbench.runs.train import Trainer

Saved = dict[str, Any]


@dataclass(kw_only=True)
class Beginning:
    """How a run begins.

    Attributes:
        rows_bytes: bytes of its ``metrics.jsonl`` that are good.
        notes: what a reader must know of it.
        started: when it was first started, UTC; empty for a run that begins now.
        peak_gib: highest memory of its parts so far.
        diverged: why it has no weights to begin with; empty where it has.
    """

    rows_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    started: str = ""
    peak_gib: float = 0.0
    diverged: str = ""


def begin(
    spec: RunSpec,
    store: Store,
    trainer: Trainer,
    corpus: TokenizedCorpus | TaskCorpus,
    *,
    digest: str,
    changed_code: str,
) -> Beginning:
    """Bring the trainer to where the run begins.

    Args:
        spec: a training run, whose lease the caller holds.
        store: where checkpoints lie.
        trainer: at step 0.
        corpus: the run's data.
        digest: digest of the sources of this process.
        changed_code: ``refuse``, ``accept`` or ``restart`` a checkpoint that other sources wrote.

    Raises:
        GdnbenchError: a checkpoint belongs to other sources, another text or another tokenizer, or the other run's is
            not there.
    """
    path = store.checkpoint_path(spec.run_id)
    try:
        saved = checkpoint.load(path)
        _check_files(spec, store, path, saved)
    except checkpoint.Corrupt as problem:
        note = f"began again: {problem}; set aside as {set_aside(path).name}"
        begun = _at_origin(spec, store, trainer, corpus, digest, changed_code)
        begun.notes.insert(0, note)
        return begun
    if saved is None:
        return _at_origin(spec, store, trainer, corpus, digest, changed_code)
    _check_text(spec, saved, corpus)
    other = _other_sources(spec.run_id, saved, digest, changed_code)
    if other and changed_code == "restart":
        return _at_origin(spec, store, trainer, corpus, digest, changed_code)
    trainer.restore(saved)
    return Beginning(
        rows_bytes=int(saved["rows_bytes"]),
        notes=[*saved["notes"], f"resumed at step {saved['step']}{other}"],
        started=saved["started"],
        peak_gib=saved["peak_gib"],
    )


def _check_files(spec: RunSpec, store: Store, path: Path, saved: Saved | None) -> None:
    """Raise `Corrupt` where files that a checkpoint goes with are not what they were when it was written."""
    if saved is None:
        return
    rows = store.rows_path(spec.run_id)
    if (rows.stat().st_size if rows.exists() else 0) < saved["rows_bytes"]:
        raise checkpoint.Corrupt(f"{path.name}: metrics.jsonl is shorter than it was when this was written")
    for step in spec.training.keep_at if spec.training else ():
        if step <= saved["step"] and not store.kept_path(spec.run_id, step).exists():
            raise checkpoint.Corrupt(f"{path.name}: the checkpoint of step {step} that goes with it is gone")


def _at_origin(
    spec: RunSpec, store: Store, trainer: Trainer, corpus: TokenizedCorpus | TaskCorpus, digest: str, changed_code: str
) -> Beginning:
    """Begin with the other run's checkpoint, if the run has an origin."""
    origin = spec.origin
    if origin is None:
        return Beginning()
    saved = checkpoint.load(store.kept_path(origin.run, origin.step))
    if saved is None and diverged_before(store, origin):
        return Beginning(diverged=f"{origin.run}, with which it begins, diverged before step {origin.step}")
    if saved is None:
        raise GdnbenchError(
            f"{spec.run_id}: begins with the checkpoint of {origin.run} at step {origin.step}, which is not here; "
            "`gdnbench reproduce` of its preset makes it again"
        )
    _check_origin(spec, origin, saved, corpus)
    other = _other_sources(origin.run, saved, digest, changed_code)
    if other and changed_code == "restart":
        raise GdnbenchError(f"{origin.run}: {other.strip()}; remove its folder to have it run again")
    if origin.takes == "state":
        # Its own time begins now.
        trainer.restore({**saved, "seconds": 0.0, "timed": [0.0, 0]})
    else:
        trainer.model.load_state_dict(saved["model"])
    return Beginning(notes=[f"began with {origin.takes} of {origin.run} at step {origin.step}{other}"])


def _check_origin(spec: RunSpec, origin: Origin, saved: Saved, corpus: TokenizedCorpus | TaskCorpus) -> None:
    """Raise unless the other run saw what this one takes for granted: its tokens and, to go on, its text."""
    if saved["tokenizer_hash"] != corpus.tokenizer_hash:
        raise GdnbenchError(
            f"{spec.run_id}: {origin.run} was trained with another tokenizer ({saved['tokenizer_hash'][:10]}, now "
            f"{corpus.tokenizer_hash[:10]}), so its weights mean other tokens"
        )
    if origin.takes == "state":
        _check_text(spec, saved, corpus)


def _check_text(spec: RunSpec, saved: Saved, corpus: TokenizedCorpus | TaskCorpus) -> None:
    if saved["corpus_hash"] != corpus.corpus_hash:
        raise GdnbenchError(
            f"{spec.run_id}: its checkpoint was trained on another content of corpus {spec.data.corpus} "
            f"({saved['corpus_hash'][:10]}, now {corpus.corpus_hash[:10]}); put the text back, or remove its checkpoint"
        )


def _other_sources(run_id: str, saved: Saved, digest: str, changed_code: str) -> str:
    """Return how a checkpoint's sources differ, in words; empty where they do not. Raise where that is refused."""
    if saved["digest"] == digest:
        return ""
    if changed_code == "refuse":
        raise GdnbenchError(
            f"{run_id}: its checkpoint was written by other source files ({saved['digest'][:10]}, now "
            f"{digest[:10]}); --changed-code accept goes on with it and records that, --changed-code restart "
            "begins it again"
        )
    return f" under sources {digest[:10]}, begun under {saved['digest'][:10]}"
