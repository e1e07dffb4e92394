"""Whether the texts are what a study needs: what its stored runs saw, and enough of it."""

from collections.abc import Iterable
from typing import Any

from gdnbench.configuration import to_mapping
from gdnbench.data import TokenizedCorpus, corpus_label
from gdnbench.data.tasks import TaskCorpus
from gdnbench.errors import GdnbenchError
from gdnbench.plan.spec import Data, RunSpec
from gdnbench.results import Record, Store
from gdnbench.runs.execute import corpus_of


def check_content(specs: Iterable[RunSpec], records: Iterable[Record], store: Store) -> None:
    """Raise unless a set's runs were made on the texts that their corpora hold now; files may have changed."""
    runs = [record for record in records if record.kind in ("train", "coord_check", "decode") and not record.timing]
    for data, experiment in {spec.data: spec.experiment for spec in reversed([*specs])}.items():
        now = _there(data, experiment).corpus_hash
        stored = [record for record in runs if _names(record) == _names_of(data)]
        others = [record for record in stored if record.data["corpus_hash"] != now]
        if others:
            raise GdnbenchError(
                f"{store.folder}: {len(others)} of its runs were made on another content of corpus {data.corpus} "
                f"({others[0].data['corpus_hash'][:10]}, now {now[:10]}); name another set with --set"
            )


def _names(record: Record) -> tuple[Any, Any]:
    """Return what names the data of a run: its corpus, and the options where that is a task."""
    return record.data.get("corpus"), record.spec["data"].get("task")


def _names_of(data: Data) -> tuple[Any, Any]:
    return corpus_label(data.corpus), None if data.task is None else to_mapping(data.task)


def check_epochs(specs: Iterable[RunSpec], most: float | None) -> None:
    """Raise if a run would see its train split more often than ``most`` times; None: any number is accepted."""
    if most is None:
        return
    worst = max(((_epochs(spec), spec) for spec in specs), key=lambda found: found[0], default=None)
    if worst is None or worst[0] <= most:
        return
    epochs, spec = worst
    assert spec.training is not None
    asked = spec.training.steps * spec.training.batch_size * spec.training.seq_len
    text = _loaded(spec.data)
    there = len(text.split("train").tokens) if isinstance(text, TokenizedCorpus) else 0
    raise GdnbenchError(
        f"experiment {spec.experiment} trains on {asked:,} tokens a run, and the train split of corpus "
        f"{spec.data.corpus} has {there:,}: that is {epochs:.2f} epochs, more than {most:g}; --allow-epochs "
        f"{epochs + 0.005:.2f} (or max_epochs in the preset) accepts the repetition"
    )


def _epochs(spec: RunSpec) -> float:
    """Return how often a run visits its train split; 0 where its length is not known beforehand."""
    if spec.training is None or spec.training.seconds is not None:
        return 0.0
    part = spec.training
    sampler = _loaded(spec.data).sampler(batch_size=part.batch_size, seq_len=part.seq_len, seed=0)
    return sampler.epochs(part.steps)


def _there(data: Data, experiment: str) -> TokenizedCorpus | TaskCorpus:
    """Return a corpus; where it is not there the message says how to say where it is, or to do without."""
    try:
        return _loaded(data)
    except GdnbenchError as error:
        raise GdnbenchError(
            f"experiment {experiment}: {error} (--corpus and --also say where texts lie, --only leaves experiments out)"
        ) from error


def _loaded(data: Data) -> TokenizedCorpus | TaskCorpus:
    return corpus_of(data, ("valid",))
