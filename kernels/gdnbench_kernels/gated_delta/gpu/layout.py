"""Sizes of a call and where its chunks lie, for dense batches and for packed sequences alike."""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

CHUNK = 64

# The row factors that `prepare` writes, in this order; rq and rk only where q and k are normalized inside.
ROWS = ("beta", "recall", "read", "write", "decay", "rq", "rk")
# Where they are not, and sequences are cut into pieces, "growth" takes the place of rq (`segments.reach`).
GROWTH_ROWS = (*ROWS[:5], "growth")


def cdiv(a: int, b: int) -> int:
    """Return ``a / b`` rounded up, in a tenth of the time that `triton.cdiv` takes on the host."""
    return -(-a // b)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Sizes of a call. A chunk *slot* is one place for a chunk's results; a packed batch may leave some unused.

    Attributes:
        batch, time, heads, value_heads, key_dim, value_dim: of the arguments.
        sequences: ``batch``, or the number of packed sequences.
        chunks: number of slots N. Dense: slot ``b * NT + n``, ``NT = cdiv(T, 64)``. Packed: ``chunk_starts[s] + n``.
        cu_seqlens: int32 ``[sequences + 1]``, first token of each packed sequence; None when dense.
        chunk_starts: int32 ``[sequences + 1]``, first slot of each packed sequence; None when dense.
        chunk_sequence: int32 ``[N]``, the sequence of a slot (``sequences`` where unused); None when dense.
    """

    batch: int
    time: int
    heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    sequences: int
    chunks: int
    cu_seqlens: Tensor | None = None
    chunk_starts: Tensor | None = None
    chunk_sequence: Tensor | None = None

    @classmethod
    def of(cls, q: Tensor, v: Tensor, cu_seqlens: Tensor | None) -> "Layout":
        """Return the layout of ``q [B, T, H, K]`` and ``v [B, T, HV, V]``; ``cu_seqlens`` is not read on the host."""
        batch, time, heads, key_dim = q.shape
        value_heads, value_dim = v.shape[2:]
        sizes: dict[str, Any] = dict(
            batch=batch, time=time, heads=heads, value_heads=value_heads, key_dim=key_dim, value_dim=value_dim
        )
        if cu_seqlens is None:
            return cls(**sizes, sequences=batch, chunks=batch * cdiv(time, CHUNK))
        sequences = cu_seqlens.shape[0] - 1
        chunks = time // CHUNK + sequences  # at least the sum of cdiv(length, 64), known without reading lengths
        ends = ((cu_seqlens.diff() + CHUNK - 1) // CHUNK).cumsum(0, dtype=torch.int32)
        slots = torch.arange(chunks, device=q.device, dtype=torch.int32)
        return cls(
            **sizes,
            sequences=sequences,
            chunks=chunks,
            cu_seqlens=cu_seqlens.to(torch.int32),
            chunk_starts=F.pad(ends, (1, 0)),
            chunk_sequence=torch.searchsorted(ends, slots, right=True, out_int32=True),
        )

    @property
    def chunks_per_sequence(self) -> int:
        """Chunks of a dense sequence; of the longest that a packed one could be."""
        return cdiv(self.time, CHUNK)

    def heads_together(self, programs: int) -> int:
        """Return how many value heads of a key head one program may take, while at least ``programs`` are left."""
        group = self.value_heads // self.heads
        fit = [n for n in range(1, group + 1) if group % n == 0 and self.chunks * self.value_heads >= n * programs]
        return max(fit, default=1)

    def kernel_arguments(self) -> dict[str, object]:
        """Return what every kernel's `locate_chunk` and `locate_piece` take."""
        return {
            "T": self.time,
            "H": self.heads,
            "HV": self.value_heads,
            "cu_seqlens": self.cu_seqlens,
            "chunk_starts": self.chunk_starts,
        }


def strides(**tensors: Tensor | None) -> dict[str, int]:
    """Return the strides of token tensors ``[B, T, H, ...]`` as ``<name>_sb, <name>_st, <name>_sh`` (0 for None)."""
    named: dict[str, int] = {}
    for name, x in tensors.items():
        of_x = (0, 0, 0) if x is None else x.stride()
        named |= {f"{name}_sb": of_x[0], f"{name}_st": of_x[1], f"{name}_sh": of_x[2]}
    return named


@triton.jit
def locate_chunk(slot, T, cu_seqlens, chunk_starts, chunk_sequence, CHUNK: tl.constexpr):
    """Return (batch index, first token in it, tokens) of a slot's chunk, with no tokens where the slot is unused."""
    if cu_seqlens is None:
        per_sequence = tl.cdiv(T, CHUNK)
        batch = slot // per_sequence
        first = (slot % per_sequence) * CHUNK
        count = tl.minimum(T - first, CHUNK)
    else:
        sequence = tl.load(chunk_sequence + slot)
        # An unused slot reads the end of the last sequence and finds no tokens left.
        start = tl.load(cu_seqlens + sequence)
        used = start < T
        end = tl.load(cu_seqlens + sequence + 1, mask=used, other=0)
        batch = 0
        first = start + (slot - tl.load(chunk_starts + sequence)) * CHUNK
        count = tl.minimum(end - first, CHUNK)
    return batch, first, count


@triton.jit
def locate_piece(piece, segments, T, cu_seqlens, chunk_starts, CHUNK: tl.constexpr):
    """Return (batch, first token, end token, first slot, chunks from, chunks to) of piece ``s * segments + j``.

    Tokens count within the batch row, chunks within the sequence: the piece walks chunks ``from <= n < to``.
    """
    sequence = piece // segments
    j = piece % segments
    if cu_seqlens is None:
        batch = sequence
        first = 0
        end = T
        slot = sequence * tl.cdiv(T, CHUNK)
    else:
        batch = 0
        first = tl.load(cu_seqlens + sequence)
        end = tl.load(cu_seqlens + sequence + 1)
        slot = tl.load(chunk_starts + sequence)
    chunks = tl.cdiv(end - first, CHUNK)
    length = tl.cdiv(chunks, segments)
    return batch, first, end, slot, tl.minimum(j * length, chunks), tl.minimum((j + 1) * length, chunks)
