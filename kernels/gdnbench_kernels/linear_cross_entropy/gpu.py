"""The kernel of the linear cross entropy: a row of logits becomes its loss, and in place its gradient.

A row is read twice by one program, the second time from a cache: some 400 rows are under way on an H200, three for each
SM, which is 25 MB at 32,000 words in bfloat16. What crosses the memory is one read and one write.
"""

import triton
import triton.language as tl
from torch import Tensor

from gdnbench_kernels.launching import launch, on_its_device
from gdnbench_kernels.linear_cross_entropy.api import IGNORED

# 8,192 rows of 32,000 words in bfloat16 took 0.31 ms on an H200 (1.05 GB, 0.25 ms at 4.2 TB/s); 0.37 with 8 warps, 0.36
# with blocks of 16,384 and as many warps, 0.38 to 0.46 with others.
TILE = {"BLOCK": 8192, "num_warps": 16}
LOG2_E = 1.4426950408889634

_IGNORED = tl.constexpr(IGNORED)
_LOWEST = tl.constexpr(-1e30)  # below all logits, and finite, so that differences of two are numbers
_LOG_2 = tl.constexpr(1 / LOG2_E)


@on_its_device
def rows(logits: Tensor, targets: Tensor, losses: Tensor, scale: float, gradient: bool) -> None:
    """Fill the losses, and turn the logits into gradients if wanted; see `chunked.Rows`."""
    count, words = logits.shape
    tile = TILE | {"BLOCK": min(TILE["BLOCK"], max(triton.next_power_of_2(words), 128))}
    launch(
        cross_entropy_kernel,
        (count,),
        logits=logits,
        targets=targets.contiguous(),
        losses=losses,
        scale=scale * LOG2_E,
        V=words,
        STRIDE=logits.stride(0),
        GRADIENT=gradient,
        # What a thread reads at once: 16 bytes.
        GROUP=16 // logits.element_size(),
        **tile,
    )


@triton.jit(do_not_specialize=["scale"])
def cross_entropy_kernel(
    logits, targets, losses, scale,
    V: tl.constexpr, STRIDE: tl.constexpr, GRADIENT: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Program: one row. Exponentials are of 2, and ``scale``, above 0, has the factor for it.

    A thread keeps a running maximum and sum for each group that it reads at once, so threads meet once a row. Reads and
    writes go up to the next row, so that none is cut short for the sake of its last words.
    """
    WHOLE: tl.constexpr = V // BLOCK * BLOCK
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    counted = target != _IGNORED
    inside = (target >= 0) & (target < V)
    target = tl.where(inside, target, -1).to(tl.int32)
    logits += row * STRIDE
    hit = tl.load(logits + target, mask=inside, other=0.0).to(tl.float32)

    place = tl.arange(0, BLOCK // GROUP)[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    highest = tl.full([BLOCK // GROUP], _LOWEST, tl.float32)
    total = tl.zeros([BLOCK // GROUP], tl.float32)
    for start in range(0, WHOLE, BLOCK):
        x = tl.load(logits + start + place).to(tl.float32)
        highest, total = collect(x, highest, total, scale)
    if WHOLE < V:
        x = tl.load(logits + WHOLE + place, mask=WHOLE + place < STRIDE, other=0.0).to(tl.float32)
        highest, total = collect(tl.where(WHOLE + place < V, x, -float("inf")), highest, total, scale)
    top = tl.max(highest, 0)
    log_sum = scale * top + tl.log2(tl.sum(total * tl.exp2(scale * (highest - top)), 0))

    # A target out of range is a mistake that the host cannot see without waiting: it shows as NaN.
    log_sum = tl.where(counted & (inside == 0), float("nan"), log_sum)
    tl.store(losses + row, tl.where(counted, (log_sum - scale * hit) * _LOG_2, 0.0))

    if GRADIENT:
        log_sum = tl.where(counted, log_sum, float("inf"))  # of which the exponentials are 0
        hit = tl.exp2(scale * hit - log_sum) - 1.0
        # Backwards: what was read last is most likely still near.
        if WHOLE < V:
            x = tl.load(logits + WHOLE + place, mask=WHOLE + place < STRIDE, other=0.0).to(tl.float32)
            d = tl.where(WHOLE + place == target, hit, tl.exp2(scale * x - log_sum))
            tl.store(logits + WHOLE + place, d.to(logits.dtype.element_ty), mask=WHOLE + place < STRIDE)
        for back in range(BLOCK, WHOLE + BLOCK, BLOCK):
            x = tl.load(logits + (WHOLE - back) + place).to(tl.float32)
            d = tl.where(WHOLE - back + place == target, hit, tl.exp2(scale * x - log_sum))
            tl.store(logits + (WHOLE - back) + place, d.to(logits.dtype.element_ty))


@triton.jit
def collect(x, highest, total, scale):
    """Return maxima, and sums of ``2^(scale (x - maximum))``, by group, with those of ``x`` taken in."""
    before = highest
    highest = tl.maximum(before, tl.max(x, 1))
    terms = tl.exp2(scale * x - (scale * highest)[:, None])
    return highest, total * tl.exp2(scale * (before - highest)) + tl.sum(terms, 1)
