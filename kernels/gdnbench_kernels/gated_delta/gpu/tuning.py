"""The search behind ``configurations.json``: explicit, on the GPU at hand, one kernel and one shape at a time."""

import concurrent.futures
import contextlib
import multiprocessing
from collections.abc import Iterator
from typing import Any

import torch
import triton
from torch import Tensor

from gdnbench_kernels import launching, resources
from gdnbench_kernels.gated_delta.gpu import operator
from gdnbench_kernels.gated_delta.gpu.configurations import forced
from gdnbench_kernels.launching import Launch

Shape = tuple[int, int, int, int, int]  # B, T, H, K, V

KERNELS = ("prepare", "scan", "reverse", "gradients", "chain")


def candidates(kernel: str, shape: Shape) -> list[dict[str, Any]]:
    """Return the configurations worth timing for ``kernel`` at ``shape``."""
    key_dim, value_dim = (triton.next_power_of_2(size) for size in shape[3:])
    if kernel == "prepare":
        return [dict(BK=b, num_warps=w) for b in (32, 64, 128) if b <= key_dim for w in (1, 2, 4)]
    if kernel == "chain":
        return [dict(VB=b, num_warps=w) for b in (16, 32) for w in (4, 8)]
    # Tiles under 64 columns go to mma.sync only (2 warps): Triton 3.6 addresses wrongly where wgmma gets narrower ones.
    narrow = [dict(VB=32, num_warps=2, STAGES=s, num_stages=s) for s in (1, 2)] if key_dim <= 32 else []
    tiles = [vb for vb in (64, 128) if vb <= max(value_dim, 64)]
    wide = [dict(VB=vb, num_warps=w, STAGES=s, num_stages=s) for vb in tiles for w in (4, 8) for s in (1, 2, 3)]
    if kernel != "gradients":
        return narrow + wide
    return [{"BK": bk, **config} for bk in (32, 64, 128) if bk <= key_dim and 4 * bk >= key_dim for config in wide]


def launches(shape: Shape, device: str, arch: int, *, fused: bool = False) -> list[Launch]:
    """Return the launches of one forward and backward pass at ``shape`` in bfloat16, unrun."""
    arguments = example(shape, device, fused=fused)
    with launching.recorded(arch) as found:
        _, _, *kept = operator.forward(*arguments.values(), False)
        q, k, v, g, beta, A_log, dt_bias, initial, cu_seqlens, *options = arguments.values()
        do = torch.randn_like(v) if device != "meta" else v
        operator.backward(q, k, v, g, beta, A_log, dt_bias, initial, cu_seqlens, *kept, do, None, *options)
    return found


def example(shape: Shape, device: str, *, fused: bool = False, dtype: torch.dtype = torch.bfloat16) -> dict[str, Any]:
    """Return random arguments of `operator.forward`, by name, at ``shape``; with ``fused`` the raw ones."""
    batch, time, heads, key_dim, value_dim = shape

    def normal(*size: int) -> Tensor:
        return torch.empty(size, device=device) if device == "meta" else torch.randn(size, device=device)

    q, k = (normal(batch, time, heads, key_dim) for _ in range(2))
    gate, strength = (normal(batch, time, heads) for _ in range(2))
    if not fused:
        q, k = (torch.nn.functional.normalize(x, dim=-1) for x in (q, k))
        gate, strength = -0.1 * gate.abs(), strength.sigmoid()
    return {
        "q": q.to(dtype),
        "k": k.to(dtype),
        "v": normal(batch, time, heads, value_dim).to(dtype),
        "g": gate,
        "beta": strength,
        "A_log": normal(heads) if fused else None,
        "dt_bias": normal(heads) - 4 if fused else None,
        "initial_state": None,
        "cu_seqlens": None,
        "scale": key_dim**-0.5,
        "gate_scale": 1.0,
        "beta_range": 1.0 if fused else None,
        "normalize": fused,
    }


def search(
    kernel: str, shape: Shape, *, repeats: int = 20, tried: list[dict[str, Any]] | None = None
) -> Iterator[tuple[dict[str, Any], float | str]]:
    """Yield each candidate with the device time of all launches of ``kernel`` in one forward and backward pass.

    Times are medians in ms; a candidate that does not compile or does not fit yields the reason instead.
    """
    arch = launching.arch_of(torch.device("cuda", 0))
    for config in candidates(kernel, shape) if tried is None else tried:
        with forced(kernel, config):
            found = launches(shape, "cuda", arch)
        own = [launch for launch in found if launch.kernel.__name__.startswith(f"{kernel}_")]
        try:
            for launch in found:  # so that all buffers hold what they would hold
                _run(launch)
            yield config, _time(own, repeats)
        except Exception as error:  # what a compiler or a launch can raise is open-ended, and each is a result here
            yield config, str(error).strip().splitlines()[-1][:120]


def compile_all(shapes: list[Shape], kernels: tuple[str, ...], arch: int, workers: int) -> None:
    """Fill Triton's cache with all candidates, in ``workers`` processes that need no GPU."""
    jobs = [(k, shape, c, arch) for k in kernels for shape in shapes for c in candidates(k, shape)]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        list(pool.map(_compile, jobs, chunksize=4))


def _compile(job: tuple[str, Shape, dict[str, Any], int]) -> None:
    kernel, shape, config, arch = job
    with forced(kernel, config):
        found = launches(shape, "meta", arch)
    for launch in found:
        if launch.kernel.__name__.startswith(f"{kernel}_"):
            with contextlib.suppress(Exception):  # the search says what was wrong with it
                resources.compile_ahead(launch, arch)


def _run(launch: Launch) -> None:
    launch.kernel[launch.grid](**launch.arguments, **launch.options)


def _time(found: list[Launch], repeats: int) -> float:
    for launch in found:
        _run(launch)
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for launch in found:
            _run(launch)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[repeats // 2]
