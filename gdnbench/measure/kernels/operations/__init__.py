"""The operations of the bench: what each is called with, by every backend."""

from gdnbench.measure.kernels.operations.attention import attention
from gdnbench.measure.kernels.operations.fused import gated_norm, short_convolution
from gdnbench.measure.kernels.operations.gated_delta import (
    gated_delta,
    gated_delta_negative,
    gated_delta_step,
)
from gdnbench.measure.kernels.operations.kda import kda
from gdnbench.measure.kernels.operations.loss import linear_cross_entropy
from gdnbench.measure.kernels.operations.operation import Operation
from gdnbench.measure.kernels.operations.ssd import ssd
from gdnbench.measure.kernels.operations.wkv7 import wkv7

__all__ = ["FUSED", "MIXERS", "MIXER_PEERS", "OPERATIONS", "Operation"]

OPERATIONS: dict[str, Operation] = {
    "gated_delta": gated_delta,
    "gated_delta_step": gated_delta_step,
    "attention": attention,
    "ssd": ssd,
    "wkv7": wkv7,
    "kda": kda,
    "gated_delta_negative": gated_delta_negative,
    "short_convolution": short_convolution,
    "gated_norm": gated_norm,
    "linear_cross_entropy": linear_cross_entropy,
}

# The project's own operations around the recurrence.
FUSED = ("short_convolution", "gated_norm")

# Rows of the same table: operation -> its backends; and what our own backend is compared with.
MIXERS = {
    "attention": ("flash", "cudnn"),
    "ssd": ("triton", "mamba_ssm"),
    "wkv7": ("fla",),
    "kda": ("fla",),
    "gated_delta_negative": ("triton", "fla"),
}
MIXER_PEERS = {"ssd": "mamba_ssm", "gated_delta_negative": "fla"}
