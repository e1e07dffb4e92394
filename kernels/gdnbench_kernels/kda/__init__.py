"""Kimi delta attention: the gated delta rule with a decay of its own for every key channel."""

from gdnbench_kernels.kda.api import kda, kda_step

__all__ = ["kda", "kda_step"]
