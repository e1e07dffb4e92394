"""A result record: what was run, on what, and every number with its unit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 1
TIMINGS = ("kernel", "train_throughput", "decode")


def metric(value: float, unit: str) -> dict[str, Any]:
    """Return the entry of a metric: its value and its unit."""
    return {"value": value, "unit": unit}


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished run, as stored in its ``run.json``.

    Attributes:
        run_id: name of the run, from the hash of its specification.
        set: name of the set it is stored in.
        kind: ``train``, ``coord_check``, ``decode`` (of a study, or of a bench), ``evaluation`` (of a trained run's
            model on a text), ``lm_eval`` (likewise, by a task of lm-eval), ``kernel`` or ``train_throughput``.
        outcome: ``finished`` or ``diverged``, which is a result too; of a timing also ``unavailable`` (the backend or
            library refuses the case or cannot run on the machine) and ``failed`` (it broke).
        detail: one line on the outcome; empty for a run without incident.
        spec: the full configuration (`gdnbench.plan.spec.RunSpec` as plain data; of a kernel
            `gdnbench.measure.kernels.case.KernelCase.spec`, of a training speed
            `gdnbench.measure.training.case.TrainingCase.spec`, of a speed of generation
            `gdnbench.measure.decoding.case.DecodeCase.spec`).
        metrics: name -> {value, unit}.
        rows_sha256: hash of the run's ``metrics.jsonl``.
        source_digest: hash of the source files that determine its numbers.
        data: corpus and tokenizer with their hashes; of a timing its correctness check and clock.
        environment: device, driver, versions, commit, backends, concurrency.
        started: UTC, ISO 8601.
        duration_s: seconds of work, over all of its parts if it was interrupted.
        notes: what a reader must know: accepted digests, fallbacks, interruptions.
        schema: version of this layout.
    """

    run_id: str
    set: str
    kind: str
    outcome: Literal["finished", "diverged", "unavailable", "failed"]
    detail: str = ""
    spec: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    rows_sha256: str
    source_digest: str
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    started: str
    duration_s: float
    notes: tuple[str, ...] = field(default=())
    schema: int = SCHEMA_VERSION

    @property
    def timing(self) -> bool:
        """Whether a bench measured it, rather than a study's run or an evaluation: its spec is that of a case."""
        return self.kind in TIMINGS and "impl" in self.spec

    @property
    def commit(self) -> str:
        """The first ten digits of the commit whose code ran, or ``unknown``."""
        return str(self.environment.get("commit") or "unknown")[:10]

    @property
    def at_once(self) -> int:
        """How many runs shared the machine, this one included."""
        return int(self.environment.get("workers") or 1)

    def metric(self, name: str) -> float | None:
        """Return a metric's value, or None where the run has none of that name."""
        entry = self.metrics.get(name)
        return None if entry is None else entry["value"]

    def flat(self) -> dict[str, Any]:
        """Return the record as one flat object: names of the export, without units."""
        versions = self.environment.get("versions", {})
        return {
            "run_id": self.run_id,
            "set": self.set,
            "kind": self.kind,
            "outcome": self.outcome,
            **FLAT.get(self.kind, _model_run)(self),
            "device": self.environment.get("device"),
            "torch_version": versions.get("torch"),
            "triton_version": versions.get("triton"),
            "driver": self.environment.get("driver"),
            "commit": self.environment.get("commit"),
            "dirty": self.environment.get("dirty"),
            "source_digest": self.source_digest,
            "started": self.started,
            "duration_s": self.duration_s,
            "detail": self.detail,
        }


# Metrics of a kernel that every exported one has, null where it was not measured.
KERNEL_METRICS = ("ms", "spread_ms", "floor_ms", "peak_extra_gib", "max_rel_error")


def _kernel(record: Record) -> dict[str, Any]:
    """Return the fields of a kernel's timing: the case as it is, the check and the numbers."""
    values = {name: entry["value"] for name, entry in record.metrics.items()}
    about = {key: record.data.get(key) for key in ("correct", "checked", "peer", "how", "input_sets")}
    return {
        **{key: value for key, value in record.spec.items() if key != "device"},
        **dict.fromkeys(KERNEL_METRICS),
        **values,
        **about,
        "what_ran": _pairs(record.data.get("what_ran") or {}),
    }


# Metrics of a training speed that every exported one has, null where it was not measured.
TRAINING_METRICS = (
    "params_total", "params_non_embedding", "tokens_per_s", "spread_tokens_per_s", "mfu", "floor_tokens_per_s",
    "peak_gib", "first_step_s",
)  # fmt: skip


def _training(record: Record) -> dict[str, Any]:
    """Return the fields of a training speed: its sizes, how our own step ran, the check and the numbers."""
    spec, model = record.spec, record.spec["model"]
    sizes = ("batch", "seq_len", "steps", "dtype", "seed", "caches")
    settings = spec["settings"]
    return {
        **{key: spec[key] for key in ("arch", "impl", "block")},
        **{key: model[key] for key in ("width", "depth", "vocab_size", "tied")},
        **{key: spec[key] for key in sizes},
        "backend": _backend(model["backend"]) if settings else None,
        "execution": _pairs(settings.get("execution", {})),
        "residual": settings.get("residual"),
        **dict.fromkeys(TRAINING_METRICS),
        **{name: entry["value"] for name, entry in record.metrics.items()},
        **{key: record.data.get(key) for key in ("correct", "checked", "how", "profiled")},
        "what_ran": _pairs(record.data.get("what_ran") or {}),
    }


# Metrics of a speed of generation that every exported one has, null where it was not measured.
DECODING_METRICS = (
    "params_total", "params_non_embedding", "tokens_per_s", "floor_tokens_per_s", "prefill_tokens_per_s", "ttft_ms",
    "ms_per_token_p50", "ms_per_token_p99", "weights_gib", "state_gib", "workspace_gib", "peak_gib",
)  # fmt: skip


def _decoding(record: Record) -> dict[str, Any]:
    """Return the fields of a speed of generation, of the bench's grid or of a study's run."""
    if not record.timing:
        return _model_run(record)
    spec, model = record.spec, record.spec["model"]
    own = ("arch", "impl", "block", "size", "batch", "context", "dtype", "state_dtype", "tokens", "repeats", "seed")
    return {
        **{key: spec[key] for key in own},
        **{key: model[key] for key in ("width", "depth", "vocab_size", "tied")},
        "backend": _backend(model["backend"]),
        **dict.fromkeys(DECODING_METRICS),
        **{name: entry["value"] for name, entry in record.metrics.items()},
        **{key: record.data.get(key) for key in ("correct", "checked", "how")},
        "what_ran": _pairs(record.data.get("what_ran") or {}),
        "notes": "; ".join(record.notes),
    }


def _harness(record: Record) -> dict[str, Any]:
    """Return the fields of a task of lm-eval: those of the run whose model it evaluates, and what was asked."""
    asked = ("task", "version", "num_fewshot", "limit", "window", "examples", "requests", "harness")
    return {**_model_run(record), **{key: record.data.get(key) for key in asked}}


FLAT: Mapping[str, Callable[[Record], dict[str, Any]]] = {
    "kernel": _kernel,
    "train_throughput": _training,
    "decode": _decoding,
    "lm_eval": _harness,
}


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items()))


def _model_run(record: Record) -> dict[str, Any]:
    """Return the fields of a run of a model: its configuration, its data and its metrics."""
    spec, model = record.spec, record.spec["model"]
    values = {name: entry["value"] for name, entry in record.metrics.items()}
    return {
        "experiment": spec["experiment"],
        "arm": spec["arm"],
        "arch": model["arch"],
        "block": model["block"],
        "parametrization": spec["parametrization"]["table"],
        "switches": ",".join(f"{k}={v}" for k, v in sorted(spec["parametrization"]["switches"].items())),
        "geometry": model["geometry"],
        "width": model["width"],
        "base_width": model["base_width"],
        "depth": model["depth"],
        "optimizer": spec["optimizer"]["name"],
        "lr": spec["optimizer"]["lr"],
        "seed": spec["seed"],
        "corpus": spec["data"]["corpus"],
        "corpus_hash": record.data.get("corpus_hash"),
        "tokenizer": spec["data"]["tokenizer"],
        "tokenizer_hash": record.data.get("tokenizer_hash"),
        "dtype": spec["dtype"],
        "threads": spec["threads"],
        **_workload(spec),
        "word_perplexity": values.get("whitespace_word_ppl"),
        **values,  # a task's own word_perplexity takes that place
        "impl": _backend(model["backend"]),
    }


def _backend(backend: str | Mapping[str, str]) -> str:
    """Return a model's choice of backends as one word."""
    return backend if isinstance(backend, str) else ",".join(f"{key}={name}" for key, name in sorted(backend.items()))


def _workload(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of what was run, by the spec's kind."""
    if spec["training"] is not None:
        training = spec["training"]
        return {key: training[key] for key in ("steps", "batch_size", "seq_len")}
    if spec["decode"] is not None:
        return {"context": spec["decode"]["context"], "batch": spec["decode"]["batch_size"]}
    return {key: spec["coordinates"][key] for key in ("batch_size", "seq_len")}
