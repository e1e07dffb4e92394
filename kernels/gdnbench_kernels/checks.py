"""Argument checks that read only metadata, so that they cost no device synchronization."""

import torch
from torch import Tensor


def shape(name: str, x: Tensor, *expected: int | None) -> None:
    """Raise `ValueError` unless ``x`` has the expected shape; None stands for any size."""
    if x.shape == expected:
        return
    fits = x.ndim == len(expected) and all(e is None or e == s for s, e in zip(x.shape, expected, strict=True))
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in expected)
        raise ValueError(f"{name}: expected shape [{wanted}], got {list(x.shape)}")


def same_device_and_kind(**tensors: Tensor | None) -> None:
    """Raise `ValueError` unless all tensors are floating point and on one device."""
    first_name, device = "", None
    for name, x in tensors.items():
        if x is None:
            continue
        if not x.is_floating_point():
            raise ValueError(f"{name}: expected a floating point tensor, got {x.dtype}")
        if device is None:
            first_name, device = name, x.device
        elif x.device != device:
            raise ValueError(f"{name}: on {x.device}, but {first_name} is on {device}")


def multiple(name: str, value: int, of: int, of_name: str) -> None:
    """Raise `ValueError` unless ``value`` is a positive multiple of ``of``."""
    if of < 1 or value < 1 or value % of:
        raise ValueError(f"{name}: {value} is not a positive multiple of {of_name} = {of}")


def same_type(**tensors: Tensor | None) -> None:
    """Raise `ValueError` unless all tensors compute in one type: those that are multiplied with each other.

    Half precision and float32 go together, as autocast mixes them; float64 goes with itself only.
    """
    first_name, first = "", None
    for name, x in tensors.items():
        if x is None or x.dtype is first:
            continue
        if first is None:
            first_name, first = name, x.dtype
        elif torch.float64 in (first, x.dtype):
            raise ValueError(f"{name}: {x.dtype}, but {first_name} is {first}; convert one of them")


def contiguous_rows(**tensors: Tensor) -> None:
    """Raise `ValueError` unless the last dimension of each tensor lies contiguously; other strides are free."""
    for name, x in tensors.items():
        if not x.is_contiguous() and x.stride(-1) != 1 and x.shape[-1] > 1:
            raise ValueError(f"{name}: expected a contiguous last dimension, got strides {list(x.stride())}")


def contiguous(**tensors: Tensor) -> None:
    """Raise `ValueError` for the first tensor that is not contiguous."""
    for name, x in tensors.items():
        if not x.is_contiguous():
            raise ValueError(f"{name}: expected a contiguous tensor, got strides {list(x.stride())}")


def rows(name: str, x: Tensor) -> None:
    """Raise `ValueError` unless ``x`` is ``[B, channels]`` of at least one row and one channel."""
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{name}: expected [B, channels], at least one of each, got {list(x.shape)}")


def memory(name: str, x: Tensor) -> None:
    """Raise `ValueError` unless ``x`` is ``[B, heads, K, V]`` of at least one number a row."""
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(f"{name}: expected [B, heads, K, V], at least one of each, got {list(x.shape)}")


def token_channels(x: Tensor, state: Tensor, *, of_memory: str, of_x: str) -> int:
    """Return how many channels of ``x [B, channels]`` are keys, twice K a head; `ValueError` unless it may be.

    The others are the values of ``state [B, heads, K, V]``, the argument ``memory``, whose heads share the keys' by
    group; ``of_memory`` and ``of_x`` are what a message calls both kinds of heads.
    """
    rows("x", x)
    memory("memory", state)
    heads, key_dim, value_dim = state.shape[1:]
    keys = x.shape[1] - heads * value_dim
    if keys < 1 or keys % (2 * key_dim):
        raise ValueError(
            f"x: {x.shape[1]} channels, wants a multiple of 2 K = {2 * key_dim}, at least that, and the "
            f"{heads} x {value_dim} of values in memory"
        )
    multiple(f"{of_memory} of memory", heads, keys // (2 * key_dim), f"{of_x} of x")
    shape("memory", state, len(x), heads, key_dim, value_dim)
    return keys


def packed_sequences(cu_seqlens: Tensor, name: str, x: Tensor) -> int:
    """Return the number of sequences that ``cu_seqlens`` cuts ``x [1, T, ...]`` into; `ValueError` unless it may."""
    if cu_seqlens.dtype not in (torch.int32, torch.int64) or cu_seqlens.ndim != 1 or cu_seqlens.shape[0] < 2:
        raise ValueError(
            "cu_seqlens: expected int32 or int64 [sequences + 1] of at least one sequence, "
            f"got {cu_seqlens.dtype} {list(cu_seqlens.shape)}"
        )
    if cu_seqlens.device != x.device:
        raise ValueError(f"cu_seqlens: on {cu_seqlens.device}, but {name} is on {x.device}")
    if cu_seqlens.stride(0) != 1:
        raise ValueError(f"cu_seqlens: expected a contiguous tensor, got stride {cu_seqlens.stride(0)}")
    if x.shape[0] != 1:
        raise ValueError(f"{name}: expected a batch of 1, which cu_seqlens cuts into sequences, got {list(x.shape)}")
    return cu_seqlens.shape[0] - 1


def may_read(x: Tensor) -> bool:
    """Return whether values of ``x`` may be read on the host now: not while tracing or capturing a CUDA graph."""
    return not (torch.compiler.is_compiling() or x.is_meta or (x.is_cuda and torch.cuda.is_current_stream_capturing()))


def sequence_bounds(cu_seqlens: Tensor, time: int) -> None:
    """Raise `ValueError` unless the values of ``cu_seqlens`` never decrease from 0 to ``time``; reads them."""
    bounds = cu_seqlens.tolist()
    if bounds[0] != 0 or bounds[-1] != time:
        raise ValueError(f"cu_seqlens: from {bounds[0]} to {bounds[-1]}, wants 0 to T = {time}")
    if bounds != sorted(bounds):
        raise ValueError(f"cu_seqlens: wants values that never decrease, got {bounds}")
