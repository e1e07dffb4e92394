"""Listings of one small kernel, sound and with faults planted, for the tests of the table of resources."""

import os

import torch
import triton
import triton.language as tl
from gdnbench_kernels.launching import Launch, launch, recorded


@triton.jit(do_not_specialize=["free"])
def product(
    a, b, c, stride, free,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, LEFT_IN_REGISTERS: tl.constexpr,
):  # fmt: skip
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    total = tl.zeros([M, N], tl.float32)
    for _ in range(free):
        left = tl.load(a + m[:, None] * stride + k[None, :])
        if LEFT_IN_REGISTERS:
            left = (left.to(tl.float32) * 2).to(tl.bfloat16)
        total += tl.dot(left, tl.load(b + k[:, None] * stride + n[None, :]))
        a += K
    tl.store(c + m[:, None] * stride + n[None, :], total.to(tl.bfloat16))


def one(
    arch: int, case: str = "small", *, width: int = 64, depth: int = 64, stride: int = 1024, free: int = 3, left=False
):
    x = torch.empty(1024, 1024, dtype=torch.bfloat16, device="meta")
    sizes = {"M": 64, "N": width, "K": depth, "LEFT_IN_REGISTERS": left}
    with recorded(arch) as found:
        launch(product, (1,), a=x, b=x, c=x, stride=stride, free=free, **sizes, num_warps=4, num_stages=2)
    return [(case, found[0])]


def sound(arch):
    # The last two compile to the same machine code as the first.
    return [*one(arch), *one(arch, free=5), *one(arch, "another", stride=2048)]


def spilling(arch):
    return [*one(arch, width=512, depth=16), *one(arch, "another", stride=2048)]


def with_register_operands(arch):
    """Also, the second case is gone."""
    return one(arch, left=True)


def refused(arch):
    return [*one(arch, width=96), *one(arch, "another", stride=2048)]


class Crash:
    """Stands for a kernel whose compilation takes the process down."""

    module, __name__ = "planted", "crash"

    def __init__(self):
        self.device_caches = {}

    def warmup(self, *, grid):
        hook = triton.knobs.runtime.jit_cache_hook
        if hook is None:
            print("error: broken beyond words", file=__import__("sys").stderr, flush=True)
            os.abort()
        hook(key="crash")


def crashing(arch):
    crash = Launch(kernel=Crash(), grid=(1,), arguments={}, options={})
    return [*sound(arch), ("small", crash)]
