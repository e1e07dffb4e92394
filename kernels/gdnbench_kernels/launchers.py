"""The short way to a compiled kernel: its launcher in C, with arguments that are laid out once.

Triton's own way there is Python that divides the arguments anew and encodes every TMA descriptor again: 10 to 20
microseconds of a launch. What the launcher in C takes is a matter of Triton's version (`KNOWN`); kernels of others are
launched through Triton.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import triton
from torch import Tensor
from triton.backends.nvidia.driver import TMA_DTYPE_DEVICE_TO_HOST
from triton.runtime import driver

from gdnbench_kernels.launching import Grid

KNOWN = ("3.6.",)
DESCRIPTORS = 1024  # kept, encoded, of each argument: a model's layers come again with the same addresses

Encode = Callable[[int], Any]


@dataclass(frozen=True)
class Prepared:
    """A launch but for its stream and addresses.

    Attributes:
        call: what to call with all ``arguments``.
        arguments: None at ``stream``, ``pointers`` and ``descriptors``.
        stream: where the stream goes; None where that is Triton's matter.
        pointers: where addresses go, for each tensor in the kernel's order.
        descriptors: where what is made of addresses goes, and what makes it, for each descriptor in that order.
    """

    call: Callable[..., Any]
    arguments: list[Any]
    stream: int | None
    pointers: list[int]
    descriptors: list[tuple[int, Encode]]


def prepare(compiled: Any, blocks: Grid, arguments: list[Any]) -> Prepared:
    """Lay out the arguments of a launch of a compiled kernel that has been launched before."""
    run = compiled.run
    if not triton.__version__.startswith(KNOWN) or run.global_scratch_size or run.profile_scratch_size:
        return _through_triton(compiled, blocks, arguments)
    call, pointers, descriptors = run.launch, [], []
    options = run.launch_cooperative_grid, run.launch_pdl
    laid = [*blocks, None, compiled.function, *options, None, None, compiled.packed_metadata, None, None, None]
    encodings = iter(compiled.metadata.tensordesc_meta or ())
    for x in arguments:
        if isinstance(x, Tensor):
            pointers.append(len(laid))
            laid.append(None)
        elif is_descriptor(x):
            call = inspect.getclosurevars(run.launch).nonlocals["launcher"]
            descriptors.append((len(laid), _encoder(next(encodings), x)))
            laid += None, *x.shape, *x.strides
        else:
            laid.append(x)
    return Prepared(call, laid, len(blocks), pointers, descriptors)


def _through_triton(compiled: Any, blocks: Grid, arguments: list[Any]) -> Prepared:
    laid = [None if isinstance(x, Tensor) or is_descriptor(x) else x for x in arguments]
    pointers = [i for i, x in enumerate(arguments) if isinstance(x, Tensor)]
    tiled = [(i, x) for i, x in enumerate(arguments) if is_descriptor(x)]
    descriptors: list[tuple[int, Encode]] = [(i, _Descriptor(x.shape, x.strides, x.padding).at) for i, x in tiled]
    return Prepared(compiled[blocks], laid, None, pointers, descriptors)


def is_descriptor(x: Any) -> bool:
    """Return whether an argument of a kernel is a TMA descriptor."""
    return hasattr(x, "base")


def _encoder(encoding: dict[str, Any], like: Any) -> Encode:
    """Return what encodes a descriptor like another for an address: the launcher in C copies it."""
    shape, strides, block = list(like.shape), list(like.strides), list(encoding["block_size"])
    swizzle, size = encoding["swizzle"], encoding["elem_size"]
    element, padding = TMA_DTYPE_DEVICE_TO_HOST[encoding["elem_type"]], int(like.padding == "nan")
    encode = driver.active.utils.fill_tma_descriptor
    return lru_cache(DESCRIPTORS)(
        lambda address: encode(address, swizzle, size, element, block, shape, strides, padding)
    )


@dataclass(frozen=True)
class _Descriptor:
    """A TMA descriptor as Triton takes it, whose memory begins at an address."""

    shape: Any
    strides: Any
    padding: str
    address: int = 0

    def at(self, address: int) -> "_Descriptor":
        """Return the same of memory elsewhere."""
        return replace(self, address=address)

    @property
    def base(self) -> "_Descriptor":
        """Itself, as far as its address is asked for."""
        return self

    def data_ptr(self) -> int:
        """Return where the memory begins."""
        return self.address
