"""The operations of the bench: what the project's are called with, and adapters to the mixers of others."""

from gdnbench.measure.kernels.operations.attention import attention
from gdnbench.measure.kernels.operations.fused import gated_norm, short_convolution
from gdnbench.measure.kernels.operations.gated_delta import gated_delta, gated_delta_step
from gdnbench.measure.kernels.operations.loss import linear_cross_entropy
from gdnbench.measure.kernels.operations.mamba_ssm import ssd
from gdnbench.measure.kernels.operations.operation import Operation
from gdnbench.measure.kernels.operations.wkv7 import wkv7

__all__ = ["FUSED", "MIXERS", "OPERATIONS", "Operation"]

OPERATIONS: dict[str, Operation] = {
    "gated_delta": gated_delta,
    "gated_delta_step": gated_delta_step,
    "attention": attention,
    "ssd": ssd,
    "wkv7": wkv7,
    "short_convolution": short_convolution,
    "gated_norm": gated_norm,
    "linear_cross_entropy": linear_cross_entropy,
}

# The project's own operations around the recurrence.
FUSED = ("short_convolution", "gated_norm")

# Rows of the same table: operation -> its backends.
MIXERS = {"attention": ("flash", "cudnn"), "ssd": ("mamba_ssm",), "wkv7": ("fla",)}
