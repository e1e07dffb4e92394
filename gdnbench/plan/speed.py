"""How fast runs are on a device: from stored records where there are some, else by a rule that says that it is one."""

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from math import log

import torch

from gdnbench.environment import device_name
from gdnbench.results import Record
from gdnbench.words import plural

# Share of the probed matrix-product rate that small models reach on a CPU.
CPU_SHARE = 0.35
# A data-centre GPU's matrix products in bfloat16, where none is there to be probed.
NOMINAL_GPU_RATE = 7e14
# What a model's training reaches of it: a tenth at 20M parameters, growing with size to at most a half.
GPU_SHARE, GPU_SHARE_PARAMS, GPU_SHARE_POWER, GPU_SHARE_MOST = 0.1, 2e7, 0.55, 0.5
# Seconds of a run beside its steps (start of the model, capture of a step, evaluation), until some were measured.
BESIDE = {"cpu": 0.3, "cuda": 5.0}
# The same of coordinate checks and of generation, which compile nothing.
BESIDE_MEASURING = {"cpu": 0.3, "cuda": 2.0}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a stored run says of its model.

    Attributes:
        arch: its architecture.
        params: its parameters in all.
        rate: its FLOP/s.
        beside: its seconds beside the steps, where known.
        at_once: how many runs shared the machine, this one included.
    """

    arch: str
    params: float
    rate: float
    beside: float | None
    at_once: int = 1


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """What to expect of a device.

    Attributes:
        device: ``cpu`` or ``cuda``.
        peak: FLOP/s of its matrix products.
        measured: what stored runs reached; empty where there are none.
        source: how this is known, in words; `told` says for how many runs at once, too.
    """

    device: str
    peak: float
    measured: tuple[Measured, ...] = ()
    source: str

    def rate(self, arch: str, params: float, workers: int = 1) -> float:
        """Return the FLOP/s to expect of a model while so many run: of the most similar measured ones, by its size.

        Runs that share a GPU share what it did for as many as were measured at once: more of them gain nothing, and
        fewer are at least as fast. On a CPU each has cores of its own.
        """
        size = share(self.device, params)
        near = self._nearest(arch, params)
        if not near:
            return self.peak * size * self._part(1, workers)
        return statistics.median(
            m.rate * size / share(self.device, m.params) * self._part(m.at_once, workers) for m in near
        )

    def told(self, workers: int) -> str:
        """Return how this is known, and what that leaves out for so many runs at once."""
        crowded = [m.at_once for m in self.measured if m.at_once > 1]
        told = self.source
        if crowded:
            told += f", {len(crowded):,} of which shared it with up to {plural(max(crowded) - 1, 'other')}"
        if max(crowded, default=1) > workers:
            told += " and would be faster alone" if workers == 1 else f" and would be faster with {workers} at once"
        elif self.device == "cuda" and workers > max(crowded, default=1):
            told += "; what it gains by more at once is not counted"
        return told

    def _part(self, measured: int, workers: int) -> float:
        return min(1.0, measured / workers) if self.device == "cuda" else 1.0

    def beside(self, arch: str, params: float) -> float:
        """Return the seconds to expect of a run beside its steps."""
        known = [m.beside for m in self._nearest(arch, params) if m.beside is not None]
        return statistics.median(known) if known else BESIDE[self.device]

    def _nearest(self, arch: str, params: float) -> list[Measured]:
        """Return the measured models of the nearest size, of this architecture if it was measured at all."""
        candidates = [m for m in self.measured if m.arch == arch] or list(self.measured)
        nearest = min((abs(log(m.params / params)) for m in candidates), default=0.0)
        return [m for m in candidates if abs(log(m.params / params)) <= nearest + 0.02]


def share(device: str, params: float) -> float:
    """Return the share of a device's matrix-product rate that training a model of so many parameters reaches."""
    if device == "cpu":
        return CPU_SHARE
    return min(GPU_SHARE_MOST, GPU_SHARE * (params / GPU_SHARE_PARAMS) ** GPU_SHARE_POWER)


def speeds(records: Iterable[Record], device: str) -> Speeds:
    """Return what to expect of a device from stored training runs on it, or failing these from a probe.

    Runs on another processor count only where the device is not here at all.
    """
    here = None if device == "cuda" and not torch.cuda.is_available() else device_name(device)
    found, names = [], set()
    for record in records:
        name = str(record.environment.get("device", device))
        if here in (None, name) and (measured := _measured(record, device)) is not None:
            found.append(measured)
            names.add(name)
    if found:
        source = f"by the speed of {plural(len(found), 'stored run')} on {' and '.join(sorted(names))}"
        return Speeds(device=device, peak=NOMINAL_GPU_RATE, measured=tuple(found), source=source)
    peak, source = probed(device)
    return Speeds(device=device, peak=peak, source=source)


def probed(device: str) -> tuple[float, str]:
    """Return the FLOP/s of this machine's matrix products, and how that is known; takes a fraction of a second."""
    if device == "cuda" and not torch.cuda.is_available():
        return NOMINAL_GPU_RATE, f"nominal: no GPU here, so a rule of thumb at {NOMINAL_GPU_RATE:.0e} FLOP/s"
    size = 512 if device == "cpu" else 4096
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        x = torch.randn(size, size, device=device, dtype=dtype)
        best = min(_timed_product(x) for _ in range(8))
    finally:
        torch.set_num_threads(threads)
    return 2 * size**3 / best, "by a probe of this machine's matrix products"


def _timed_product(x: torch.Tensor) -> float:
    started = time.perf_counter()
    y = x @ x
    if y.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _measured(record: Record, device: str) -> Measured | None:
    """Return what a record says of speed on the device: of a training run, or of a measurement of its throughput."""
    throughput, params = record.metric("tokens_per_s"), record.metric("params_total")
    here = record.spec.get("device", "cuda") == device
    if record.kind not in ("train", "train_throughput") or not here or not throughput or not params:
        return None
    model = record.spec.get("model", record.spec)
    # A throughput's record may leave the formula out: six FLOPs a parameter, which counts the head once.
    per_token = record.metric("flops_per_token") or 6 * params
    return Measured(
        arch=str(model.get("arch", "")),
        params=params,
        rate=throughput * per_token,
        beside=record.metric("beside_s"),
        at_once=record.at_once,
    )
