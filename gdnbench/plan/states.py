"""Matching by state: an option of an arm's mixer is chosen so that one sequence carries as much as the reference's."""

import dataclasses
import json
from collections.abc import Callable
from functools import cache

import torch

from gdnbench.configuration import canonical_json, from_mapping
from gdnbench.errors import GdnbenchError
from gdnbench.models.config import ModelConfig
from gdnbench.models.decoder import Decoder
from gdnbench.plan.budgets import counts
from gdnbench.plan.spec import Matched
from gdnbench.presets.schema import Vary

# Beyond so many steps of an option nothing is looked for.
LARGEST = 4096


def match_state(
    where: str,
    reference: str,
    model: ModelConfig,
    of: ModelConfig,
    seq_len: int,
    vary: Vary | None,
    tolerance: float,
) -> tuple[ModelConfig, Matched]:
    """Return the arm's model with the option that brings its state nearest to the reference's, and how near that is.

    Args:
        where: path of the arm, for messages.
        reference: name of the reference arm.
        model: the arm's model.
        of: the reference's model.
        seq_len: tokens after which states are compared: a Transformer's grows with them.
        vary: the option; None: the model is the reference's.
        tolerance: largest relative deviation.

    Raises:
        GdnbenchError: no such option, none of its values works, or none comes near enough.
    """
    target = counts(of, seq_len).state_bytes
    if vary is not None:
        name, _, option = vary.option.partition(".")
        if not option or vary.step < 1:
            raise GdnbenchError(f"{where}.vary: {vary.option!r} by {vary.step} is not mixer.option, by 1 or more")
        value = _nearest(canonical_json(model), name, option, vary.step, seq_len, target)
        if value is None:
            with_option(model, name, option, vary.step)  # an option that does not exist says so itself
            raise GdnbenchError(f"{where}.vary: no multiple of {vary.step} works for {vary.option}")
        model = with_option(model, name, option, value)
    deviation = counts(model, seq_len).state_bytes / target - 1
    if abs(deviation) > tolerance:
        raise GdnbenchError(
            f"{where}: the nearest to {reference} by state_bytes is {deviation:+.1%} off, beyond the tolerance of "
            f"{tolerance:.1%}; vary another option, change the reference's state, or raise match.tolerance"
        )
    return model, Matched(by="state_bytes", reference=reference, deviation=deviation)


def with_option(model: ModelConfig, name: str, option: str, value: int) -> ModelConfig:
    """Return the model with one option of a mixer replaced; raise where it has none of that name, or not that value.

    It must do at the base width, too, where a parametrization takes its constants from.
    """
    options = {**model.options, name: {**model.options.get(name, {}), option: value}}
    changed = dataclasses.replace(model, options=options)
    with torch.device("meta"):
        Decoder(changed)
        Decoder(changed.at_base())
    return changed


@cache
def _nearest(model: str, name: str, option: str, step: int, seq_len: int, target: int) -> int | None:
    """Return the value whose state is nearest to ``target`` bytes; None where no value works.

    The state grows with the value, so the first that reaches the target is found by doubling and halving; values that
    a mixer refuses (odd head dims, no divisors) are stepped over.
    """
    config = from_mapping(ModelConfig, json.loads(model))

    @cache
    def state(steps: int) -> int | None:
        try:
            return counts(with_option(config, name, option, steps * step), seq_len).state_bytes
        except GdnbenchError:
            return None

    def from_(value: int) -> int | None:
        """Return the first value from this one on that works."""
        return next((v for v in range(value, min(2 * value + 8, LARGEST) + 1) if state(v) is not None), None)

    def reaches(value: int) -> bool:
        found = from_(value)
        return found is None or (state(found) or 0) >= target

    high = 1
    while not reaches(high) and high < LARGEST:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    near = [value for value in (from_(high), _before(state, high)) if value is not None]
    best = min(near, key=lambda value: abs((state(value) or 0) - target), default=None)
    return None if best is None else best * step


def _before(state: Callable[[int], int | None], value: int) -> int | None:
    """Return the last value below this one that works."""
    return next((v for v in range(value - 1, 0, -1) if state(v) is not None), None)
