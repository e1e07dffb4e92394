"""The gated norm: what linear mixers put on the output of each head."""

from gdnbench_kernels.gated_norm.api import gated_norm

__all__ = ["gated_norm"]
