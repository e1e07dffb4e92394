"""Launching without a GPU: real as far as Triton's launcher in C, in whose place a list stands.

What a kernel would be given in C is what a test can see: its grid, stream and options, numbers, and addresses.
"""

import contextlib
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
import triton
from gdnbench_kernels import launching
from triton.backends.nvidia.driver import wrap_handle_tensordesc
from triton.runtime.jit import JITFunction


@dataclass(frozen=True)
class Descriptor:
    """Stands for an encoded TMA descriptor."""

    address: int
    rest: tuple

    @classmethod
    def encode(cls, address, *rest):
        return cls(address, tuple(tuple(x) if isinstance(x, list | tuple) else x for x in rest))


class Driver:
    """Stands for the driver of a GPU."""

    device, stream = 0, 5
    utils = SimpleNamespace(fill_tma_descriptor=Descriptor.encode)

    def get_current_device(self):
        return self.device

    def get_current_stream(self, device):
        return self.stream


class Compiled:
    """Stands for a compiled kernel of Triton's; ``in_c(kernel, *arguments)`` for its launcher in C."""

    function, packed_metadata = 7, (4, 1, 0)

    def __init__(self, kernel, arguments, in_c):
        tiled = [hasattr(x, "base") for x in arguments]
        encodings = [
            {"swizzle": 3, "elem_size": 2, "elem_type": 9, "block_size": x.block_shape, "fp4_padded": False}
            for x, is_tiled in zip(arguments, tiled, strict=True)
            if is_tiled
        ]
        signature = {i: "tensordesc" if is_tiled else "i32" for i, is_tiled in enumerate(tiled)}
        self.metadata = SimpleNamespace(tensordesc_meta=encodings)
        self.run = SimpleNamespace(
            launch=wrap_handle_tensordesc(lambda *given: in_c(kernel, *given), signature, encodings),
            global_scratch_size=0,
            profile_scratch_size=0,
            launch_cooperative_grid=False,
            launch_pdl=False,
        )

    def __getitem__(self, blocks):
        options = self.run.launch_cooperative_grid, self.run.launch_pdl
        head = *blocks, launching.driver.active.stream, self.function, *options, None, None, self.packed_metadata
        return lambda *arguments: self.run.launch(*head, None, None, None, *arguments)


@contextlib.contextmanager
def launches(does=lambda kernel, *given: None):
    """Collect what the launchers in C are given inside: names of kernels and arguments, tensors as their addresses.

    ``does`` is called with each kernel and these.
    """
    calls = []

    def take(kernel, *given):
        given = [x.data_ptr() if isinstance(x, torch.Tensor) else x for x in given]
        calls.append((kernel.__name__, given))
        does(kernel, *given)

    def run(self, *args, grid, warmup, **arguments):
        in_order = [arguments[name] for name in self.arg_names]
        found = Compiled(self, in_order, take)
        found[(*grid, 1, 1)[:3]](*in_order)
        return found

    before = triton.runtime.driver._active
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JITFunction, "run", run)
        patch.setattr(launching, "_compiled", {})
        triton.runtime.driver.set_active(Driver())
        try:
            yield calls
        finally:
            triton.runtime.driver._active = before
