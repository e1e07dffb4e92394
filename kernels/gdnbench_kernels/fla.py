"""flash-linear-attention, as every operation's backend ``fla`` needs it: what is missing, its switches, what ran."""

import functools
import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gdnbench_kernels import requirements
from gdnbench_kernels.precision import HALF

# Its dispatcher sends calls to other libraries where it finds them, by switches that it reads at each call. Pinned
# are those that would make this another backend. TileLang stays as it is: on Hopper, flash-linear-attention does not
# trust Triton 3.4 to 3.7.0 with its own backward kernel and takes TileLang's, or refuses to train (its issue 640).
PINNED = {"FLA_FLASH_QLA": "0", "FLA_INTRACARD_CP": "0"}


def why_unavailable() -> str | None:
    """Return what is missing: the library, or a GPU with bfloat16."""
    return requirements.missing("fla-core", oldest="0.6.0", capability=(8, 0))


def beyond_version(first: str) -> str | None:
    """Return that the library is of version ``first`` or later, for what was written against its inner functions."""
    found = requirements.version("fla-core")
    if found is not None and not requirements.older(found, first):
        return f"fla-core {found} is not older than {first}, and its inner functions may have changed"
    return None


def beyond(name: str, x: Tensor) -> str | None:
    """Return what its chunked kernels do not serve of ``x [..., K]``: K beyond 256, what was not checked (float32)."""
    if x.shape[-1] > 256:
        return f"{name}: K is {x.shape[-1]}, wants at most 256"
    if not x.is_cuda:
        return f"{name}: on {x.device}, wants a CUDA device"
    if x.dtype not in HALF:
        return f"{name}: {x.dtype}, wants bfloat16 or float16"
    return None


@functools.cache
def pin() -> None:
    """Pin the switches of this process, at the first call and not when a backend is looked at."""
    os.environ.update(PINNED)


def narrow(namespace: Mapping[str, Any]) -> tuple[int, int]:
    """Leave the kernels of a module that time themselves few configurations; return how many of how many.

    Left are those with 2, 4 or 8 warps, three stages and blocks of 64, where a kernel has any. Each that is left is
    compiled and timed in the first call.
    """
    left = listed = 0
    for kernel in namespace.values():
        while not hasattr(kernel, "configs") and hasattr(kernel, "fn"):
            kernel = kernel.fn  # what chooses by arguments stands around what times
        found = getattr(kernel, "configs", None)
        if isinstance(found, list) and found:
            kernel.configs = [configuration for configuration in found if _likely(configuration)] or found
            left, listed = left + len(kernel.configs), listed + len(found)
    return left, listed


def _likely(configuration: Any) -> bool:
    blocks = {value for name, value in configuration.kwargs.items() if name in ("BK", "BV", "BS")}
    return configuration.num_warps in (2, 4, 8) and configuration.num_stages == 3 and blocks <= {64}


def what_ran() -> dict[str, str]:
    """Return versions, switches and the dispatcher's own log of what it sent elsewhere in this process."""
    from fla import backends

    registries = getattr(backends, "_operation_registries", {}).values()
    sent = {entry for registry in registries for entry in registry._logged if not entry.endswith(":fail")}
    return {
        "fla-core": str(requirements.version("fla-core")),
        "tilelang": requirements.version("tilelang") or "absent",
        **{name: os.environ.get(name, "") for name in (*PINNED, "FLA_TILELANG")},
        "dispatched": ", ".join(sorted(sent)) or "nothing",
    }
