"""Variants against baselines under one budget: a preset's comparison with other arms, and what is done with it."""

from gdnbench.compare.arms import Budget, parse_budget, preset_of
from gdnbench.compare.prepare import Asked, Prepared, hours, prepared

__all__ = ["Asked", "Budget", "Prepared", "hours", "parse_budget", "prepared", "preset_of"]
