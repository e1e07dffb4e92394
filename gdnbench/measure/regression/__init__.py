"""Whether the kernels got worse: what they compile to against a stored table, their times against a baseline tree."""
