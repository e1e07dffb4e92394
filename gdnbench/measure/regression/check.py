"""The two parts of the check, each with what it prints and whether it found something worse."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from gdnbench_kernels import backends

from gdnbench.environment import check_device
from gdnbench.errors import GdnbenchError, unknown
from gdnbench.measure.kernels.case import Shape, parse_shape
from gdnbench.measure.kernels.grid import CPU_SHAPES, GPU_SHAPES, STEP
from gdnbench.measure.regression import interleaved
from gdnbench.measure.regression.cases import cases
from gdnbench.measure.regression.model_cases import model_cases
from gdnbench.measure.regression.trees import baseline_tree, this_tree
from gdnbench.measure.regression.workers import Kind, workers

# Exit codes.
FINE, WORSE, UNKNOWN = 0, 1, 2

SHAPES = {"cuda": GPU_SHAPES, "cpu": CPU_SHAPES}
BACKENDS = {"cuda": "triton", "cpu": "torch"}
PARTS = ("kernels", "training", "decode")


def resources(*, update: bool) -> tuple[list[str], int]:
    """Compile all kernels and compare them with the stored table, or store it anew; return lines and exit code."""
    try:
        from gdnbench.measure.regression import ahead_of_time
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        hint = 'pip install "gdnbench[triton]"'
        raise GdnbenchError(f"the kernels are compiled with Triton, which is not installed: {hint}") from None
    lines, good = ahead_of_time.check(update=update)
    return lines, FINE if good else WORSE


def timings(
    *,
    baseline: str | None,
    path: Path | None,
    threshold: float,
    shapes: Sequence[str],
    device: str | None,
    backend: str | None,
    rounds: int,
    progress: Callable[[str], object],
    parts: Sequence[str] = (),
) -> tuple[list[str], int]:
    """Time this tree against a baseline; return lines and exit code.

    Without a ``device`` that of the machine is taken; one without a GPU times nothing, and says so. ``parts`` are of
    `PARTS`; none: all, or where ``shapes`` are given the kernels alone.
    """
    for part in parts:
        if part not in PARTS:
            raise unknown("part", part, PARTS)
    parts = parts or (PARTS[:1] if shapes else PARTS)
    if device is None and not torch.cuda.is_available():
        return ["timings: not run, there is no GPU here (--device cpu times the CPU's backend)"], FINE
    device = device or "cuda"
    check_device(device)
    if backend is not None and backend not in backends.names("gated_delta"):
        raise unknown("backend", backend, backends.names("gated_delta"))
    chosen = [Shape(*parse_shape(text)) for text in shapes or SHAPES[device]]
    batch, heads, key_dim, value_dim = parse_shape(STEP[device], "B,H,K,V")
    step = None if shapes else Shape(batch, 1, heads, key_dim, value_dim)
    kernels = cases(chosen, step, backend=backend or BACKENDS[device], device=device) if "kernels" in parts else []
    wanted: dict[Kind, Sequence[interleaved.Timed]] = {"kernel": kernels, "model": model_cases(device, parts)}
    verdicts: set[str] = set()
    with baseline_tree(baseline, path) as before:
        lines = [f"timings: {this_tree().name} against {before.name}"]
        for kind, some in wanted.items():
            if not some:
                continue
            with workers(before, this_tree(), kind=kind) as (old, new):
                found = interleaved.compare(old, new, some, threshold, rounds=rounds, progress=progress)
            verdicts |= {one.verdict for one in found}
            lines += interleaved.lines(found)
    if "slower" in verdicts:
        return [*lines, f"slower than the baseline by more than {threshold:.3g} of its time"], WORSE
    return lines, UNKNOWN if "not measured" in verdicts else FINE


def percentage(text: str) -> float:
    """Return ``3%`` as 0.03."""
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = 0.0
    if not text.endswith("%") or not 0 < value < 100:
        raise GdnbenchError(f"--threshold {text}: expected a percentage above 0, such as 3%")
    return value
