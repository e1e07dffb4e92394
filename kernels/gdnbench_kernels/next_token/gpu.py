"""Kernels of the two ends of a step: what waits is embedded; the largest logits by block, and what is made of them."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.launching import launch
from gdnbench_kernels.next_token.api import RowsOfTokens

EMBED_BLOCK = 1024
SEARCH_BLOCK = 1024
NOWHERE = tl.constexpr(2**31 - 1)


def embed(table: Tensor, rows: RowsOfTokens, dtype: torch.dtype) -> Tensor:
    """Return the vectors of the waiting tokens; see `next_token.api.embed`."""
    batch, places = rows.tokens.shape
    width = table.shape[1]
    made = table.new_empty(batch, width, dtype=dtype)
    launch(
        embed_kernel,
        (triton.cdiv(width, EMBED_BLOCK), batch),
        table=table,
        tokens=rows.tokens,
        lengths=rows.lengths,
        made=made,
        places=places,
        D=width,
        BLOCK=EMBED_BLOCK,
        num_warps=4,
    )
    return made


def best(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest logit of each block of columns ``[B, blocks]`` in float32, and its first column, int64."""
    batch, vocabulary = logits.shape
    blocks = triton.cdiv(vocabulary, SEARCH_BLOCK)
    largest = logits.new_empty(batch, blocks, dtype=torch.float32)
    column = logits.new_empty(batch, blocks, dtype=torch.int64)
    launch(
        best_kernel,
        (blocks, batch),
        logits=logits,
        largest=largest,
        column=column,
        V=vocabulary,
        BLOCK=SEARCH_BLOCK,
        num_warps=4,
    )
    return largest, column


def append(largest: Tensor | None, chosen: Tensor, rows: RowsOfTokens) -> None:
    """Append of the candidates ``chosen [B, blocks]`` the first of the largest; without that there is one a row."""
    batch, blocks = chosen.shape
    launch(
        append_kernel,
        (batch,),
        largest=largest,
        chosen=chosen,
        tokens=rows.tokens,
        lengths=rows.lengths,
        limits=rows.limits,
        # The bytes of booleans.
        done=rows.done.view(torch.uint8),
        stops=rows.stops.view(torch.uint8),
        places=rows.tokens.shape[1],
        V=rows.stops.shape[0],
        BLOCKS=blocks,
        SIZE=triton.next_power_of_2(blocks),
        num_warps=1,
    )


@triton.jit(do_not_specialize=["places"])
def embed_kernel(table, tokens, lengths, made, places, D: tl.constexpr, BLOCK: tl.constexpr):
    """Program: some columns of a row."""
    row = tl.program_id(1)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    token = tl.load(tokens + row.to(tl.int64) * places + tl.load(lengths + row))
    x = tl.load(table + token.to(tl.int64) * D + column, mask=column < D)
    tl.store(made + row.to(tl.int64) * D + column, x.to(made.dtype.element_ty), mask=column < D)


@triton.jit
def best_kernel(logits, largest, column, V: tl.constexpr, BLOCK: tl.constexpr):
    """Program: a block of a row's columns."""
    block, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    place = block * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(logits + row * V + place, mask=place < V, other=float("-inf")).to(tl.float32)
    most = tl.max(x, 0)
    first = tl.min(tl.where(x == most, place, NOWHERE), 0)
    here = row * tl.num_programs(0) + block
    tl.store(largest + here, most)
    tl.store(column + here, first.to(tl.int64))


@triton.jit(do_not_specialize=["places"])
def append_kernel(
    largest, chosen, tokens, lengths, limits, done, stops, places,
    V: tl.constexpr, BLOCKS: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """Program: a row."""
    row = tl.program_id(0).to(tl.int64)
    if largest is None:
        token = tl.load(chosen + row).to(tl.int32)
    else:
        block = tl.arange(0, SIZE)
        x = tl.load(largest + row * BLOCKS + block, mask=block < BLOCKS, other=float("-inf"))
        candidate = tl.load(chosen + row * BLOCKS + block, mask=block < BLOCKS, other=NOWHERE).to(tl.int32)
        # Logits that are no numbers leave no candidate, and must not lead out of the vocabulary.
        token = tl.minimum(tl.min(tl.where(x == tl.max(x, 0), candidate, NOWHERE), 0), V - 1)
    if tl.load(done + row) == 0:
        length = tl.load(lengths + row) + 1
        tl.store(lengths + row, length)
        tl.store(tokens + row * places + length, token)
        over = (tl.load(stops + token) != 0) | (length + 1 >= tl.load(limits + row))
        tl.store(done + row, over.to(tl.uint8))
