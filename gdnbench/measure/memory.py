"""Peak memory of a piece of work in this process: of the GPU's allocator, or of the whole process on a CPU."""

import contextlib
import resource
import sys
from pathlib import Path

import torch

NOT_RESET = "peak_gib may be an earlier run's: this machine does not let a process begin its measurement again"


def reset_peak(device: str) -> tuple[str, ...]:
    """Start a new measurement of the peak; return what a record must say where that is not possible.

    On a CPU this resets the kernel's high-water mark, which Linux has and some containers do not allow.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return ()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return (NOT_RESET,)
    return ()


def peak_gib(device: str) -> float:
    """Return the peak since `reset_peak` in GiB: allocated GPU memory, or resident memory of the process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
