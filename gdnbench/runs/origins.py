"""Checkpoints that runs begin with: which are there, which are made again, and which nobody needs any more."""

from collections.abc import Iterable

from gdnbench.plan.spec import Origin, RunSpec
from gdnbench.results import Store


def needed(missing: Iterable[RunSpec]) -> set[Origin]:
    """Return the checkpoints that missing runs begin with."""
    return {spec.origin for spec in missing if spec.origin is not None}


def at_hand(store: Store, origins: Iterable[Origin]) -> set[Origin]:
    """Return those with which a run can begin: they are there, or it is known that they never will be."""
    return {o for o in origins if store.kept_path(o.run, o.step).exists() or diverged_before(store, o)}


def lost(store: Store, origins: Iterable[Origin]) -> list[str]:
    """Return the stored runs whose checkpoints are wanted but gone: checkpoints do not travel with results."""
    gone = {o.run for o in origins if not store.kept_path(o.run, o.step).exists() and not diverged_before(store, o)}
    return sorted(run for run in gone if store.read(run) is not None)


def diverged_before(store: Store, origin: Origin) -> bool:
    """Return whether the other run diverged before the step of the checkpoint."""
    record = store.read(origin.run)
    if record is None or record.outcome != "diverged":
        return False
    training = record.spec["training"]
    steps = (record.metric("train_tokens") or 0.0) / (training["batch_size"] * training["seq_len"])
    return steps < origin.step


def remove_unneeded(store: Store, stored: Iterable[RunSpec], origins: set[Origin]) -> None:
    """Remove the checkpoints of stored runs that no missing run begins with."""
    wanted = {(origin.run, origin.step) for origin in origins}
    for spec in stored:
        for step in spec.training.keep_at if spec.training else ():
            if (spec.run_id, step) not in wanted:
                store.kept_path(spec.run_id, step).unlink(missing_ok=True)
