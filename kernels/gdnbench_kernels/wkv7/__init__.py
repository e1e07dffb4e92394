"""RWKV-7's generalized delta rule: vector decay, and removal and replacement keys of their own."""

from gdnbench_kernels.wkv7.api import wkv7, wkv7_step

__all__ = ["wkv7", "wkv7_step"]
