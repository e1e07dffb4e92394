"""One token of a GDN layer between its projections: convolution, SiLU, norms, gates and the recurrence at once."""

from gdnbench_kernels.gated_delta_decode.api import gated_delta_decode

__all__ = ["gated_delta_decode"]
