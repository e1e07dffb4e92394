"""One token of causal softmax attention over caches of keys and values, which it extends."""

from gdnbench_kernels.attention_decode.api import attention_decode

__all__ = ["attention_decode"]
