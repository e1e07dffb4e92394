"""A trained model as its run kept it, for whatever is done with one: on the run's device or another."""

import dataclasses
from pathlib import Path

from gdnbench_kernels import backends

from gdnbench import data
from gdnbench.configuration import from_mapping
from gdnbench.errors import GdnbenchError, unknown
from gdnbench.models import Decoder
from gdnbench.plan.spec import RunSpec
from gdnbench.results import Record, Store
from gdnbench.results.store import open_set
from gdnbench.runs import checkpoint
from gdnbench.runs.train import DTYPES, build_model

Backend = str | dict[str, str]


def load_model(
    where: str,
    root: Path = Path("results"),
    *,
    device: str = "cpu",
    dtype: str | None = None,
    backend: Backend | None = None,
) -> Decoder:
    """Return the trained model of a run; see `find_run` for ``where``, and `load_trained`."""
    return load_trained(*find_run(where, root), device=device, dtype=dtype, backend=backend)[2]


def find_run(where: str, root: Path) -> tuple[Store, str]:
    """Return the set and the id of a run that is named by its folder, the checkpoint there, or ``<set>/<run id>``.

    Raises:
        GdnbenchError: there is none.
    """
    path = Path(where)
    if path.exists():
        folder = (path if path.is_dir() else path.parent).resolve()
        if (path.is_file() and path.name != "checkpoint.pt") or folder.parent.name != "runs":
            raise GdnbenchError(f"{where}: expected a run's folder, <results>/<set>/runs/<run>, or its checkpoint.pt")
        return open_set(folder.parents[2], folder.parents[1].name), folder.name
    name, slash, run_id = where.partition("/")
    if not slash or "/" in run_id:
        raise GdnbenchError(f"{where}: no such file or folder; a run is named by its folder, or as <set>/<run id>")
    return open_set(root, name), run_id


def read_trained(
    store: Store, run_id: str, *, device: str | None = None, dtype: str | None = None, backend: Backend | None = None
) -> tuple[Record, RunSpec]:
    """Return what `load_trained` does but for the model itself."""
    record = store.read(run_id)
    if record is None:
        known = sorted(path.parent.name for path in store.folder.glob("runs/*/checkpoint.pt"))
        raise GdnbenchError(
            f"no finished run {run_id!r} in {store.folder}; with checkpoint: {', '.join(known) or 'none'}"
        )
    return record, _there(from_mapping(RunSpec, record.spec, run_id), device, dtype, backend)


def load_trained(
    store: Store, run_id: str, *, device: str | None = None, dtype: str | None = None, backend: Backend | None = None
) -> tuple[Record, RunSpec, Decoder]:
    """Return the record, specification and trained model of a finished run that kept its checkpoint.

    Args:
        store: the run's set.
        run_id: the run.
        device: where the model is to be; None: where it was trained.
        dtype: what it is to compute in (`gdnbench.plan.spec.RunSpec.dtype`); None: what it was trained in.
        backend: of its operations; None: the run's, and on another device or in another type those of `own_backends`.

    Raises:
        GdnbenchError: no such run, no kept checkpoint, or a damaged one.
    """
    record, spec = read_trained(store, run_id, device=device, dtype=dtype, backend=backend)
    try:
        saved = checkpoint.load(store.checkpoint_path(run_id))
    except checkpoint.Corrupt as problem:
        raise GdnbenchError(
            f"{run_id}: its checkpoint is damaged ({problem}); remove its folder and run it again"
        ) from problem
    if saved is None:
        raise GdnbenchError(
            f"{run_id}: its checkpoint was not kept; set training.keep_checkpoint in the preset and run it again"
        )
    model = build_model(spec)
    try:
        model.load_state_dict(saved["model"])
    except RuntimeError as problem:
        said = " ".join(str(problem).split())
        raise GdnbenchError(
            f"{run_id}: its checkpoint does not fit this version of {spec.model.arch}: {said}"
        ) from None
    return record, spec, model


def tokenizer_of(trained: Record, training_corpus: str | None) -> data.Tokenizer:
    """Return the tokenizer of the training; raise where what is found under its name is another one.

    A tokenizer that was trained itself needs the corpus of the training, if need be with the place of its files.
    """
    of = trained.spec["data"]
    if of.get("task") is not None:
        raise GdnbenchError(f"{trained.run_id}: was trained on {of['corpus']}, whose tokens stand for no text")
    name, corpus = of["tokenizer"], training_corpus or of.get("tokenizer_corpus") or of["corpus"]
    tokenizer = data.open_tokenizer(name, data.open_corpus(corpus) if name.startswith("bpe") else None)
    if tokenizer.hash != trained.data["tokenizer_hash"]:
        raise GdnbenchError(
            f"{trained.run_id}: tokenizer {name} of corpus {corpus} has hash {tokenizer.hash[:10]}, the model was "
            f"trained with {trained.data['tokenizer_hash'][:10]}; name its corpus with --training-corpus"
        )
    return tokenizer


def own_backends(device: str, dtype: str) -> dict[str, str]:
    """Return the backends of a device's own: our kernels on a GPU in half precision, which some need, else PyTorch."""
    own = "triton" if device == "cuda" and dtype == "bfloat16" else "torch"
    return {name: own if own in backends.names(name) else "torch" for name in backends.TRAINING}


def _there(spec: RunSpec, device: str | None, dtype: str | None, backend: Backend | None) -> RunSpec:
    """Return a specification on another device, in another type, or with other backends."""
    values = {"device": device or spec.device, "dtype": dtype or spec.dtype}
    if values["dtype"] not in DTYPES:
        raise unknown("dtype", values["dtype"], DTYPES)
    if backend is None and values != {"device": spec.device, "dtype": spec.dtype}:
        backend = own_backends(**values)
    model = spec.model if backend is None else dataclasses.replace(spec.model, backend=backend)
    return dataclasses.replace(spec, **values, model=model)  # type: ignore[arg-type]
