"""What a plan will cost: time from measured throughput, memory from the model's sizes."""

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from gdnbench.plan.budgets import counts
from gdnbench.plan.spec import RunSpec
from gdnbench.results import Record

# Share of the probed matrix-product rate that small models reach on a CPU, until this set has runs of its own.
CPU_SHARE = 0.35
# A data-centre GPU on models of tens of millions of parameters, where none is there to be probed.
NOMINAL_GPU_RATE = 5e13
# Weights, gradients and two moments, in units of a weight.
COPIES_OF_WEIGHTS = 4
# An interpreter with PyTorch loaded.
PROCESS_GIB = 0.35


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Expected seconds of work, were it done alone, and peak memory of a run."""

    seconds: float
    peak_gib: float


def flops(spec: RunSpec) -> float:
    """Return the FLOPs of a run by formula, evaluation included."""
    if spec.training is not None:
        sizes = counts(spec.model, spec.training.seq_len)
        tokens = spec.training.steps * spec.training.batch_size * spec.training.seq_len
        evaluated = spec.evaluation.sequences * spec.training.seq_len * len(spec.evaluation.splits)
        return tokens * sizes.train_flops_per_token + evaluated * sizes.forward_flops_per_token
    if spec.coordinates is not None:
        tokens = spec.coordinates.batch_size * spec.coordinates.seq_len
        steps = 3 * max(spec.coordinates.after_steps) + len(spec.coordinates.after_steps) + 1
        return steps * tokens * counts(spec.model, spec.coordinates.seq_len).forward_flops_per_token
    assert spec.decode is not None
    tokens = spec.decode.batch_size * (2 * spec.decode.context + spec.decode.tokens)
    return tokens * counts(spec.model, spec.decode.context).forward_flops_per_token


def seconds(spec: RunSpec, rate: float) -> float:
    """Return the expected seconds of a run at ``rate`` FLOP/s, with what each run costs beside arithmetic."""
    if spec.training is not None and spec.training.seconds is not None:
        return spec.training.seconds
    steps = spec.training.steps if spec.training else 4
    if spec.decode is not None:
        steps = spec.decode.tokens
    per_step = 4e-3 * max(1, spec.model.depth / 2)  # dispatch of a step's operations, measured on a CPU core
    return 0.3 + steps * per_step + flops(spec) / rate


def peak_gib(spec: RunSpec) -> float:
    """Return the expected peak memory in GiB: a process, copies of the weights, and activations kept for backward."""
    if spec.training is not None:
        batch, seq_len, copies = spec.training.batch_size, spec.training.seq_len, COPIES_OF_WEIGHTS
    elif spec.coordinates is not None:
        batch, seq_len, copies = spec.coordinates.batch_size, spec.coordinates.seq_len, COPIES_OF_WEIGHTS
    else:
        assert spec.decode is not None
        batch, seq_len, copies = spec.decode.batch_size, spec.decode.context, 1
    sizes = counts(spec.model, seq_len)
    element = 8 if spec.dtype == "float64" else 4
    # About 40 width-sized activations a block stay for the backward pass, and three copies of the logits.
    kept = 40 * spec.model.width * spec.model.depth if copies > 1 else 8 * spec.model.width
    activations = batch * seq_len * (kept + 3 * spec.model.vocab_size)
    return PROCESS_GIB + (copies * sizes.params_total + activations) * element / 2**30


def measured_rate(records: Iterable[Record], device: str) -> float | None:
    """Return the median FLOP/s of the finished training runs on ``device``, or None where there are none."""
    rates = [
        record.metrics["train_flops"]["value"] / record.duration_s
        for record in records
        if record.kind == "train" and record.outcome == "finished" and record.spec["device"] == device
    ]
    return statistics.median(rates) if rates else None


def probed_rate(device: str) -> tuple[float, str]:
    """Return the FLOP/s to expect from this machine, and how that is known; takes a fraction of a second."""
    if device == "cuda" and not torch.cuda.is_available():
        return NOMINAL_GPU_RATE, f"no GPU here: at a nominal {NOMINAL_GPU_RATE:.0e} FLOP/s"
    size = 512 if device == "cpu" else 4096
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        x = torch.randn(size, size, device=device, dtype=dtype)
        best = min(_timed_product(x) for _ in range(8))
    finally:
        torch.set_num_threads(threads)
    return CPU_SHARE * 2 * size**3 / best, "by a probe of this machine's matrix products"


def makespan(costs: Sequence[float], workers: int) -> float:
    """Return the seconds that ``workers`` need for runs of the given seconds, longest first."""
    loads = [0.0] * max(1, workers)
    for cost in sorted(costs, reverse=True):
        loads[loads.index(min(loads))] += cost
    return max(loads)


def _timed_product(x: torch.Tensor) -> float:
    started = time.perf_counter()
    y = x @ x
    if y.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
