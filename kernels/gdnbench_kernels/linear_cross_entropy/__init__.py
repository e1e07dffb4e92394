"""The linear cross entropy: a language model's head and loss as one, so that the logits never exist whole."""

from gdnbench_kernels.linear_cross_entropy.api import linear_cross_entropy, linear_cross_entropy_scores

__all__ = ["linear_cross_entropy", "linear_cross_entropy_scores"]
