"""Programmatic dependent launch: a kernel of a chain starts while the one before it still runs, on Hopper and newer.

Between two small kernels a GPU idles for microseconds: the last programs end, memory is flushed, the next ones start
and wait for their first loads. A kernel launched with ``launch_pdl=True`` starts as soon as all programs of the one
before it in the stream have called `launch_dependents` or ended, where there is room for it beside them. It then owes
the order that it would have had otherwise:

1. Before `wait` a program may read only what no kernel in flight writes: weights, norms, tables.
2. All that an earlier kernel of the chain writes is read after `wait`: then the kernel before has ended, and its writes
   are seen (by ordinary loads; not by ``ld.global.nc``).
3. Nothing is written before `wait`: an earlier kernel may still read the place, also where it was freed since.
4. Every program calls `wait`, whatever it has to do, before it ends. That is what makes "the kernel before has ended"
   mean "all before it have": a kernel that ends without having waited would let the next one overtake its own
   predecessor. Then kernels without this attribute may stand anywhere in the chain.
5. `launch_dependents` promises nothing about memory: it may come first of all. It frees no registers or shared memory,
   however: programs that start early do so in what is left of an SM. Where a kernel has more programs than run at once,
   the last ones decide.

Kernels take a constexpr ``PDL`` and hand it to both functions; a launch gives ``**overlapping(device)``. All of this
holds inside CUDA graphs.
"""

import torch
import triton
import triton.language as tl
from triton.language.extra import cuda

from gdnbench_kernels.launching import arch_of

OLDEST_ARCH = 90


def overlapping(device: torch.device) -> dict[str, bool]:
    """Return the arguments ``PDL`` and ``launch_pdl`` of a launch: whether this GPU starts kernels early.

    Older ones and Triton's interpreter run them one after the other, with both functions left out.
    """
    able = arch_of(device) >= OLDEST_ARCH
    return {"PDL": able, "launch_pdl": able}


@triton.jit
def wait(PDL: tl.constexpr):
    """Wait until the kernel before this one has ended and what it wrote is seen here."""
    if PDL:
        cuda.gdc_wait()


@triton.jit
def launch_dependents(PDL: tl.constexpr):
    """Say that the next kernel may start as far as this program is concerned; more than once is once."""
    if PDL:
        cuda.gdc_launch_dependents()
