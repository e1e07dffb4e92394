"""The sum of a residual stream and what a layer adds to it, with its norm: what the next layer reads."""

from gdnbench_kernels.add_norm.api import add_norm

__all__ = ["add_norm"]
