"""The linear cross entropy a chunk of tokens at a time: the loop, as an operator, which is given how rows of logits are
turned into losses and gradients.

What a backward pass would do is done while the logits are there, so they are computed once and never exist whole:

    logits = x W^T;  loss by row;  G = softmax - one-hot, in place of the logits;  dx = G W;  dW += G^T x

The backward pass multiplies dx and dW by its incoming gradient and the scale, which G is left without: in float16, a
mean over many tokens would make it vanish.

Least work for N tokens, width D, V words, elements of e bytes: 6 N D V operations, and as bytes, beside which N D and
V D are small, 5 N V e: written by the first product, read and written by the rows, read by the last two products. At
N = 65,536, D = 768, V = 32,000 in bfloat16: 9.7 TFLOP, 13.6 ms at 710 TFLOP/s, in whose shadow the products' own bytes
move; and 8.4 GB of the rows', 2.0 ms at 4.2 TB/s. A chunk small enough for the cache to hold its logits would spare
those, but not have W (49 MB) beside them, and dW would be read and written too often: 0.2 GB each time.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gdnbench_kernels.precision import HALF

# Of a chunk. At the sizes above 4,096 tokens fit, and dW is passed over 16 times, 0.7 ms if nothing hid it. On an H200
# forward and backward took 17.4 ms so, as with chunks of 16,384 tokens, which want 0.5 GiB more; with 8,192, 17.9 ms.
LOGITS_BYTES = 256 * 2**20
ROWS = 128  # a matrix product's tile: chunks are multiples of it
ALIGNED = 64  # rows of logits begin at multiples of this many, whatever V: products and kernels move 16 bytes at once


class Rows(Protocol):
    """How rows become losses."""

    def __call__(self, logits: Tensor, targets: Tensor, losses: Tensor, scale: float, gradient: bool) -> None:
        """Fill ``losses [n]`` from ``logits [n, V]``; with ``gradient``, turn the logits into G.

        G is ``softmax(scale * logits) - one-hot``. A row whose target does not count has loss and G 0. What lies in
        memory between the rows belongs to nobody.
        """


Operator = Callable[[Tensor, Tensor, Tensor, float, int | None, bool, bool], tuple[Tensor, Tensor, Tensor, Tensor]]


def rows_of_chunk(tokens: int, words: int, element: int) -> int:
    """Return how many tokens a chunk has where none is asked for: chunks as equal as multiples of `ROWS` can be."""
    most = max(1, LOGITS_BYTES // (words * element * ROWS)) * ROWS
    chunks = -(-tokens // most)
    return min(tokens, -(-tokens // (chunks * ROWS)) * ROWS)


def operator(name: str, rows: Rows) -> Operator:
    """Return the operator of PyTorch ``name`` (``namespace::name``) that runs the loop with these ``rows``.

    It takes x, weight, targets, scale, chunk_size and whether x and weight want gradients; it returns the sum of losses
    (what the gradients are of), losses by token, and what is kept for the backward pass.
    """

    def forward(
        x: Tensor, weight: Tensor, targets: Tensor, scale: float, chunk_size: int | None, d_x: bool, d_weight: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            losses, *gradients = _by_chunks(rows, x, weight.to(x.dtype), targets, scale, chunk_size, d_x, d_weight)
            return losses.sum(), losses, *gradients  # type: ignore[return-value]

    made = torch.library.custom_op(name, forward, mutates_args=())
    made.register_fake(_results)
    made.register_autograd(once_differentiable(_differentiate), setup_context=_save)
    return made


def total(run: Operator, x: Tensor, weight: Tensor, targets: Tensor, scale: float, chunk_size: int | None) -> Tensor:
    """Return the sum of losses by an operator of `operator`, with the gradients that autograd will ask for."""
    wanted = [torch.is_grad_enabled() and tensor.requires_grad for tensor in (x, weight)]
    return run(x, weight, targets, scale, chunk_size, *wanted)[0]


def _by_chunks(
    rows: Rows,
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    scale: float,
    chunk_size: int | None,
    want_x: bool,
    want_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return losses ``[N]``, and dx and dW before the factor of `_differentiate`, empty where not wanted."""
    gradient = want_x or want_weight
    losses, d_x, d_weight = _kept(x, weight, want_x, want_weight)
    # Without gradients the logits stay as exact as they are summed: evaluation is worth the bytes.
    element, words = x.dtype if gradient else losses.dtype, len(weight)
    height = chunk_size or rows_of_chunk(len(x), words, element.itemsize)
    memory = x.new_empty(min(height, len(x)), -(-words // ALIGNED) * ALIGNED, dtype=element)
    for start in range(0, len(x), height):
        chunk = slice(start, min(start + height, len(x)))
        logits = memory[: chunk.stop - start, :words]
        _multiply(x[chunk], weight.T, logits)
        rows(logits, targets[chunk], losses[chunk], scale, gradient)
        if want_x:
            torch.mm(logits, weight, out=d_x[chunk])
        if want_weight:
            _multiply(logits.T, x[chunk], d_weight, add=start > 0)
    return losses, d_x, d_weight


def _kept(x: Tensor, weight: Tensor, want_x: bool, want_weight: bool) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.promote_types(x.dtype, torch.float32)
    losses = x.new_empty(x.shape[0], dtype=wide)
    return losses, x.new_empty(x.shape if want_x else 0), x.new_empty(weight.shape if want_weight else 0, dtype=wide)


def _multiply(a: Tensor, b: Tensor, result: Tensor, *, add: bool = False) -> None:
    """Write ``a b`` to ``result``, or add it there, without rounding to the type of ``a`` where that is narrower."""
    beta = int(add)
    if a.dtype == result.dtype:
        torch.addmm(result, a, b, beta=beta, out=result)
    elif a.is_cuda and a.dtype in HALF:
        torch.addmm(result, a, b, out_dtype=result.dtype, beta=beta, out=result)
    else:  # a CPU has no such product
        torch.addmm(result, a.to(result.dtype), b.to(result.dtype), beta=beta, out=result)


def _results(
    x: Tensor, weight: Tensor, targets: Tensor, scale: float, chunk_size: int | None, d_x: bool, d_weight: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    losses, *gradients = _kept(x, weight, d_x, d_weight)
    return losses.new_empty(()), losses, *gradients  # type: ignore[return-value]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, weight, _, ctx.scale, _, *ctx.wanted = inputs
    ctx.weight_type = weight.dtype
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*output[2:])


def _differentiate(ctx: Any, d_total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    factor = ctx.scale * d_total
    d_x, d_weight = (
        kept * factor if wanted else None for kept, wanted in zip(ctx.saved_tensors, ctx.wanted, strict=True)
    )
    return d_x, None if d_weight is None else d_weight.to(ctx.weight_type), None, None, None, None, None
