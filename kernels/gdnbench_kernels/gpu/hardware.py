"""Which machines the Triton backends run on, and what of a call they refuse whatever the operation."""

import functools

import torch
from torch import Tensor
from triton import knobs

from gdnbench_kernels.launching import arch_of

OLDEST = (8, 0)  # compute capability
H200_PROCESSORS = 132
# Shared memory that one block may have, in bytes, by compute capability (CUDA programming guide, table "Technical
# Specifications per Compute Capability"); others, those of small GPUs among them, are taken to have the least of these.
SHARED_LIMIT = {80: 163 * 1024, 86: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024}
TYPES = (torch.bfloat16, torch.float16, torch.float32)
INTERPRETED: bool = knobs.runtime.interpret  # on a CPU, for tests: Triton reads it at import, too


def why_unavailable() -> str | None:
    """Return why Triton kernels cannot run on this machine, or None; the interpreter runs them on a CPU, for tests."""
    if INTERPRETED:
        return None
    if not torch.cuda.is_available():
        return "it needs an NVIDIA GPU, and PyTorch sees none"
    found = torch.cuda.get_device_capability()
    if found < OLDEST:
        return f"it needs compute capability {OLDEST[0]}.{OLDEST[1]} or newer, this GPU has {found[0]}.{found[1]}"
    return None


def beyond_types(**tensors: Tensor | None) -> str | None:
    """Return which tensor lies elsewhere than on a GPU or is in float64, for a backend's ``refuses``."""
    for name, x in tensors.items():
        if x is None:
            continue
        if not (x.is_cuda or INTERPRETED):
            return f"{name}: on {x.device}, wants a CUDA device"
        if x.dtype not in TYPES:
            return f"{name}: {x.dtype}, wants bfloat16, float16 or float32"
    return None


def shared_limit(device: torch.device) -> int:
    """Return how many bytes of shared memory one block may have on a GPU."""
    return SHARED_LIMIT.get(arch_of(device), min(SHARED_LIMIT.values()))


def processors(device: torch.device) -> int:
    """Return the number of multiprocessors of a GPU; an H200's where there is none (launches listed, interpreted)."""
    return _processors(device.index) if device.type == "cuda" else H200_PROCESSORS


@functools.cache
def _processors(index: int | None) -> int:
    count: int = torch.cuda.get_device_properties(index).multi_processor_count
    return count
