"""The definition, which is PyTorch's own operations on all rows at once already (any float type, any device)."""

from gdnbench_kernels.wkv7_decode.impl.reference import wkv7_decode

__all__ = ["wkv7_decode"]
