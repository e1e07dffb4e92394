"""The two ceilings of a device, measured in the run that compares with them: copy bandwidth and matmul rate."""

import functools
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

REPEATS = 20


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Copy bandwidth in GB/s (bytes read plus bytes written) and matmul rate in TFLOP/s."""

    copy_gb_s: float
    matmul_tflop_s: float


def calibrate(device: str) -> Calibration:
    """Measure a large copy and a large square matmul of random numbers (zeros run faster): medians.

    On a GPU: 2 GiB copied, and bfloat16 of size 8192. On a CPU: 64 MiB, and float32 of size 1024.
    """
    cuda = device == "cuda"
    size, dtype = (8192, torch.bfloat16) if cuda else (1024, torch.float32)
    source = torch.empty(2**31 if cuda else 2**26, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    copy = 2 * source.numel() / _median_seconds(functools.partial(target.copy_, source), device) / 1e9
    del source, target
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = _median_seconds(functools.partial(torch.matmul, a, b, out=torch.empty_like(a)), device)
    return Calibration(copy_gb_s=copy, matmul_tflop_s=2 * size**3 / seconds / 1e12)


def read_bandwidth(device: str) -> float:
    """Measure what reading alone reaches, in GB/s: the fastest of three kernels that write next to nothing.

    On a GPU: 2 GiB of bfloat16, beyond any cache. On a CPU: 64 MiB of float32.
    """
    cuda = device == "cuda"
    dtype, nbytes = (torch.bfloat16, 2**31) if cuda else (torch.float32, 2**26)
    columns = 8192
    matrix = torch.empty(nbytes // dtype.itemsize // columns, columns, dtype=dtype, device=device).normal_()
    vector = torch.randn(columns, dtype=dtype, device=device)
    words = matrix.view(torch.int32)
    calls = (lambda: torch.mv(matrix, vector), lambda: words.amax(), lambda: matrix.amax(1))
    return nbytes / min(_median_seconds(call, device) for call in calls) / 1e9


def _median_seconds(call: Callable[[], object], device: str) -> float:
    for _ in range(3):
        call()
    if device != "cuda":
        times = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
        return statistics.median(times)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(REPEATS + 1)]
    marks[0].record()
    for mark in marks[1:]:
        call()
        mark.record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in itertools.pairwise(marks)) / 1e3
