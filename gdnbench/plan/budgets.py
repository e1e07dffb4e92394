"""Matching budgets: each arm of a comparison gets the reference's parameters, FLOPs, tokens or time."""

import dataclasses
import json
from collections.abc import Callable
from functools import cache

from gdnbench.configuration import canonical_json, from_mapping
from gdnbench.errors import GdnbenchError
from gdnbench.models.config import MLP_STEP, ModelConfig
from gdnbench.models.decoder import Decoder, on_meta
from gdnbench.plan.spec import Matched, Training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
    """What a decoder has and needs, by formula."""

    params_total: int
    params_non_embedding: int
    train_flops_per_token: int
    forward_flops_per_token: int
    state_bytes: int


def counts(model: ModelConfig, seq_len: int) -> Counts:
    """Count parameters, FLOPs per token (in sequences of ``seq_len``) and float32 state bytes at that length."""
    return _counts(canonical_json(model), seq_len)


@cache
def _counts(model: str, seq_len: int) -> Counts:
    decoder = _decoder(model)
    return Counts(
        params_total=decoder.parameter_count(embedding=True),
        params_non_embedding=decoder.parameter_count(embedding=False),
        train_flops_per_token=decoder.flops_per_token(seq_len, training=True),
        forward_flops_per_token=decoder.flops_per_token(seq_len),
        state_bytes=decoder.state_bytes(seq_len),
    )


@cache
def _decoder(model: str) -> Decoder:
    return on_meta(from_mapping(ModelConfig, json.loads(model)))


def match(
    by: str,
    reference: str,
    model: ModelConfig,
    of: ModelConfig,
    training: Training,
    tolerance: float,
    uniform: bool = False,
) -> tuple[ModelConfig, Training, Matched]:
    """Return the arm's model and training under the reference's budget, and how far they are from it.

    Args:
        by: ``parameters``, ``flops``, ``tokens`` or ``wall_clock``.
        reference: name of the reference arm.
        model: the arm's model before matching.
        of: the reference's model.
        training: the experiment's training, which is the reference's.
        tolerance: largest relative deviation that is accepted.
        uniform: whether all layers get one MLP width.

    Raises:
        GdnbenchError: the budget cannot be met within the tolerance; the message says how close it comes.
    """
    seq_len = training.seq_len
    target = counts(of, seq_len)
    if by == "parameters":
        model = _match_parameters(model, target.params_non_embedding, uniform)
        deviation = counts(model, seq_len).params_non_embedding / target.params_non_embedding - 1
    elif by == "flops":
        wanted = target.train_flops_per_token * training.steps
        own = counts(model, seq_len).train_flops_per_token
        training = dataclasses.replace(training, steps=max(1, round(wanted / own)))
        deviation = own * training.steps / wanted - 1
    elif by == "wall_clock" and training.seconds is None:
        raise GdnbenchError("a comparison matched by wall_clock needs training.seconds")
    else:
        deviation = 0.0
    if abs(deviation) > tolerance:
        raise GdnbenchError(
            f"{model.arch} ({model.block}): the nearest to {reference} by {by} is {deviation:+.2%} off, beyond the "
            f"tolerance of {tolerance:.2%}; change depth or width, or raise match.tolerance"
        )
    return model, training, Matched(by=by, reference=reference, deviation=deviation)


def _match_parameters(model: ModelConfig, target: int, uniform: bool) -> ModelConfig:
    """Choose MLP widths in steps of 16 so that the non-embedding parameters come nearest to ``target``.

    One width for all layers; where a whole step is too coarse, the first layers get one step more than the others,
    unless ``uniform``.
    """
    depth = len(on_meta(model).blocks)
    once = depth if uniform else 1

    def parameters(steps: int) -> int:
        return counts(with_steps(steps), 1).params_non_embedding

    def with_steps(steps: int) -> ModelConfig:
        low, more = divmod(steps, depth)
        widths = tuple(MLP_STEP * (low + (layer < more)) for layer in range(depth))
        return dataclasses.replace(model, mlp_width=widths[0] if more == 0 else widths)

    if parameters(depth) == parameters(2 * depth):
        return model  # No block has an MLP: nothing to choose.
    above = once * _first(lambda steps: parameters(once * steps) >= target, depth // once)
    best = min((max(depth, above - once), above), key=lambda steps: abs(parameters(steps) - target))
    return with_steps(best)


def _first(holds: Callable[[int], bool], low: int) -> int:
    """Return the smallest integer from ``low`` on for which a monotone condition holds."""
    high = low
    while not holds(high):
        high *= 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
