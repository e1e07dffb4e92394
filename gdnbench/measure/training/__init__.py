"""Training throughput: a whole step of our own and of what a user would pick instead, beside the least it can take."""
