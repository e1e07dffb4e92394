"""The bridge to EleutherAI's lm-evaluation-harness: our models in it, and its results in our store.

The harness finds models by a list of its own, without a hook for others: `python -m gdnbench.lm_eval` is its command
with ours added. Nothing is imported here, so that only who evaluates by it needs it.
"""
