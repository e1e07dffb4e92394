"""The product of one token's channels with a matrix, with all that is around it: residual sum, norm, gate, activation.

It is what generation spends its time on, so it has one kernel for small batches; it has no gradients.
"""

from gdnbench_kernels.fused_linear.api import FusedLinear, fused_linear

__all__ = ["FusedLinear", "fused_linear"]
