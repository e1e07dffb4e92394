"""The two ends of a step of generation: the token that waits becomes a vector, and the chosen one waits next."""

from gdnbench_kernels.next_token.api import RowsOfTokens, append, append_likeliest, embed

__all__ = ["RowsOfTokens", "append", "append_likeliest", "embed"]
