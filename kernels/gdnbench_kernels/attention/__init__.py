"""Causal softmax attention with grouped heads."""

from gdnbench_kernels.attention.api import attention, attention_step

__all__ = ["attention", "attention_step"]
