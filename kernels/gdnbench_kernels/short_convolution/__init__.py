"""The short convolution: each channel sums its last few inputs, as linear mixers want before their recurrence."""

from gdnbench_kernels.short_convolution.api import short_convolution, short_convolutions

__all__ = ["short_convolution", "short_convolutions"]
