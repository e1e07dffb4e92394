"""What the Hopper kernels share: TMA descriptors, the register budget of warp specialization, stores of token tiles."""

import functools
import math

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import tma
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

LOADER_REGISTERS = gl.constexpr(24)

SMS = 132
REGISTERS_OF_SM = 65_536
SHARED_BYTES_OF_SM = 233_472
SHARED_RESERVED = 1_024  # lost with each program on an SM
MOST_REGISTERS = 240  # of a thread, in multiples of 8, leaving ptxas a little


class Tiles(TensorDescriptor):
    """A TMA descriptor of a tensor, cut into tiles that lie in shared memory as matrix products want them.

    Made for every launch, hence not checked as its base class is: `aligned` has seen what a caller laid out, and the
    CUDA driver refuses the rest. ``specialization`` is what `launching` asks of an argument.
    """

    def __init__(self, base: Tensor, tile: tuple[int, ...]):
        self.base = base
        self.shape = base.shape
        self.strides = base.stride()
        self.block_shape = list(tile)
        self.layout = _layout(tile, base.dtype)
        self.padding = "zero"
        self.specialization = base.dtype, tile  # the layout follows


@functools.cache
def _layout(tile: tuple[int, ...], dtype: torch.dtype) -> gl.NVMMASharedLayout:
    element = gl.float32 if dtype == torch.float32 else gl.bfloat16  # only its width counts
    return gl.NVMMASharedLayout.get_default_for(list(tile), element)


def descriptor(x: Tensor | None, tile: list[int]) -> Tiles | None:
    """Return the TMA descriptor of ``x`` for tiles of a shape; None for None."""
    return None if x is None else Tiles(x, tuple(tile))


def aligned(*tensors: Tensor | None) -> bool:
    """Return whether TMA can move these: all of one 16-bit type, bases and strides in multiples of 16 bytes."""
    present = [x for x in tensors if x is not None]
    dtype = present[0].dtype
    if dtype not in (torch.bfloat16, torch.float16):
        return False
    for x in present:
        *outer, last = x.stride()
        if x.dtype != dtype or x.data_ptr() % 16 or last != 1 or min(outer) < 1 or math.gcd(*outer) % 8:
            return False
    return True


def registers(warpgroups: int, resident: int) -> tuple[int, int]:
    """Return the registers of a thread at launch, and of one in a state warpgroup once the loader gave up its own.

    Args:
        warpgroups: with state; the loader takes the room of one more.
        resident: programs that share an SM.
    """
    at_launch = min(REGISTERS_OF_SM // (resident * 128 * (warpgroups + 1)) // 8 * 8, MOST_REGISTERS)
    with_state = (at_launch * (warpgroups + 1) - LOADER_REGISTERS.value) // warpgroups // 8 * 8
    return at_launch, min(with_state, MOST_REGISTERS)


def pairs(key_dim: int, programs: int, *, inverse: bool, group: int) -> bool:
    """Return whether two heads of a ``group`` should share a program of a walk, one to each warpgroup.

    Then q and k are loaded once for both. It pays where these outweigh all else that is loaded: with many keys and
    without an inverse; and where a pair's loads still fit, and pairs enough are left for the GPU.
    """
    return 64 < key_dim <= 128 and not inverse and group % 2 == 0 and programs >= 2 * SMS


@gluon.jit
def allocate(descriptor, count: gl.constexpr):
    """Return shared memory for ``count`` tiles of ``descriptor``."""
    return gl.allocate_shared_memory(descriptor.dtype, [count] + descriptor.block_shape, descriptor.layout)


@gluon.jit
def store_tokens(tile, tokens, ragged, batch, token, end, head, column, C: gl.constexpr, V: gl.constexpr):
    """Start the store of a tile ``[1, C, 1, W]`` of shared memory to ``tokens [B, T, H, V]``, not beyond ``end``.

    TMA cuts off what lies beyond T or V. The end of a packed sequence inside ``tokens`` it does not know: there
    (``ragged``, the pointer of ``tokens``, is not None) the last chunk is stored by the threads, under a mask.
    """
    W: gl.constexpr = tile.shape[3]
    if ragged is None:
        tma.async_copy_shared_to_global(tokens, [batch, token, head, column], tile)
    elif token + C <= end:
        tma.async_copy_shared_to_global(tokens, [batch, token, head, column], tile)
    else:
        ROW_MAJOR: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [4, 1], [1, 0])
        t = token + gl.arange(0, C, gl.SliceLayout(1, ROW_MAJOR))[:, None]
        vc = column + gl.arange(0, W, gl.SliceLayout(0, ROW_MAJOR))[None, :]
        at = ragged + t.to(gl.int64) * tokens.strides[1] + head * tokens.strides[2] + vc
        gl.store(at, tile.reshape([C, W]).load(ROW_MAJOR), mask=(t < end) & (vc < V))
