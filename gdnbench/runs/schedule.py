"""The course of the learning rate over a run, as a factor of its peak."""

import math

from gdnbench.plan.spec import Schedule


def rate_factor(schedule: Schedule, done: float, warmup: float) -> float:
    """Return the learning rate over its peak.

    Args:
        schedule: its kind and its end.
        done: fraction of the run that is over, in [0, 1).
        warmup: fraction of the run that warms up.
    """
    if done < warmup:
        return done / warmup
    progress = (done - warmup) / (1 - warmup) if warmup < 1 else 1.0
    if schedule.kind == "constant":
        return 1.0
    final = schedule.final_fraction
    if schedule.kind == "cosine":
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
    left = (1 - progress) / schedule.decay_fraction
    return final + (1 - final) * min(1.0, left)


def learning_rate(schedule: Schedule, peak: float, step: int, steps: int) -> float:
    """Return the base learning rate of a step (counted from 0): the first step already moves, the last is not zero."""
    if step < schedule.warmup_steps:
        factor = (step + 1) / schedule.warmup_steps
    else:
        factor = rate_factor(schedule, step / steps, schedule.warmup_steps / steps)
    return max(peak * factor, min(peak, schedule.minimum_lr))
