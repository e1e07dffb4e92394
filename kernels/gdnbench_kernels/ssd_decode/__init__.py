"""One token of a Mamba-2 layer between its projections: convolution, SiLU, step size and the recurrence at once."""

from gdnbench_kernels.ssd_decode.api import ssd_decode

__all__ = ["ssd_decode"]
