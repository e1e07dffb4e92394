"""One token of RWKV-7's time mixing between its projections: low-rank maps, gates, recurrence and norm at once."""

from gdnbench_kernels.wkv7_decode.api import Maps, wkv7_decode

__all__ = ["Maps", "wkv7_decode"]
