"""The search behind ``configurations.json``: explicit, on the GPU at hand, one kernel and one shape at a time."""

import concurrent.futures
import json
import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from gdnbench_kernels import launching, resources
from gdnbench_kernels.gated_delta.gpu import choice, operator
from gdnbench_kernels.gated_delta.gpu.configurations import forced
from gdnbench_kernels.launching import Launch

Shape = tuple[int, int, int, int, int]  # B, T, H, K, V

KERNELS = ("prepare", "scan", "reverse", "gradients", "chain")

MOST_SPILLED = 256  # bytes of a thread
MOST_SHARED = 227 * 1024
TAKES_REGISTERS = ("chain",)  # whose operands are split into three tf32 parts, in registers


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
    names = ("output", "final", "inverse", "attention", "rows", "starts", "transition", "lengths")
    with launching.recorded(arch) as found:
        made: dict[str, Any] = dict(zip(names, operator.forward(**arguments, output_final_state=False), strict=True))
        v = arguments["v"]
        kept = {name: made[name] for name in names[2:]}
        operator.backward(**arguments, **kept, do=v if device == "meta" else torch.randn_like(v), d_final=None)
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


def tune(
    shapes: Sequence[Shape], kernels: Sequence[str], *, workers: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return table entries for the plain kernels on this GPU: of each class of K, what was fastest over its shapes.

    All candidates are compiled first, in ``workers`` processes, and those that spill or hand registers to wgmma are
    left out. Times are device times of a kernel's launches in one forward and backward pass; those of several shapes
    of one class are compared by the geometric mean of their ratios to each shape's fastest.
    """
    arch = launching.arch_of(torch.device("cuda", 0))
    entries = []
    for kernel in kernels:
        by_class: dict[int, list[Shape]] = {}
        for shape in shapes:
            by_class.setdefault(triton.next_power_of_2(shape[3]), []).append(shape)
        for key_dim, members in sorted(by_class.items()):
            scores: dict[str, list[float]] = {}
            for shape in members:
                fit = _compile_all(kernel, shape, arch, workers)
                times = {json.dumps(config): time for config, time in _search(kernel, shape, fit, arch)}
                say(f"{kernel} at {shape}: {len(times)} of {len(candidates(kernel, shape))} candidates timed")
                if not times:
                    continue
                fastest = min(times, key=times.__getitem__)
                say(f"  {times[fastest]:.3f} ms with {fastest}")
                for config, time in times.items():
                    scores.setdefault(config, []).append(math.log(time / times[fastest]))
            common = {config: sum(logs) for config, logs in scores.items() if len(logs) == len(members)}
            if common:
                best = json.loads(min(common, key=common.__getitem__))
                entries.append({"kernel": kernel, "arch": arch, "key_dim": key_dim, "config": best})
    return entries


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the table with ``new`` entries in place of ``old`` ones of the same kernel, architecture and class."""

    def place(entry: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(entry.get(name) for name in ("kernel", "arch", "key_dim", "value_dim", "programs"))

    replaced = {place(entry) for entry in new}
    return [entry for entry in old if place(entry) not in replaced] + new


def as_text(entries: list[dict[str, Any]]) -> str:
    """Return the table as its file holds it: an entry a line."""
    return "[\n" + ",\n".join(f" {json.dumps(entry)}" for entry in entries) + "\n]\n"


def _search(
    kernel: str, shape: Shape, configs: list[dict[str, Any]], arch: int, repeats: int = 20
) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield each configuration with the median device time in ms of all launches of ``kernel``."""
    for config in configs:
        with forced(kernel, config), choice.plain():
            found = launches(shape, "cuda", arch)
        for launch in found:  # so that all buffers hold what they would hold
            _run(launch)
        yield config, _time([launch for launch in found if _is(launch, kernel)], repeats)


def _compile_all(kernel: str, shape: Shape, arch: int, workers: int) -> list[dict[str, Any]]:
    """Return the candidates that compile without faults; they are in Triton's cache then."""
    jobs = [(kernel, shape, config, arch) for config in candidates(kernel, shape)]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        fits = list(pool.map(_fits, jobs))
    return [config for (*_, config, _arch), fit in zip(jobs, fits) if fit]


def _fits(job: tuple[str, Shape, dict[str, Any], int]) -> bool:
    """Compile a candidate and return whether it is worth running."""
    kernel, shape, config, arch = job
    with forced(kernel, config), choice.plain():
        found = [launch for launch in launches(shape, "meta", arch) if _is(launch, kernel)]
    try:
        for launch in found:
            takes = resources.measure(launch, arch)
            if takes.spill_bytes > MOST_SPILLED or takes.shared_bytes > MOST_SHARED or takes.serialized:
                return False
            if takes.wgmma_rs and kernel not in TAKES_REGISTERS:
                return False
            resources.compile_ahead(launch, arch)
    except resources.CompilationFailed:
        return False
    return True


def _is(launch: Launch, kernel: str) -> bool:
    return launch.kernel.__name__ == f"{kernel}_kernel"


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
