"""What a plan will cost: time from the speed to expect, memory from the model's sizes."""

from collections.abc import Sequence
from dataclasses import dataclass

from gdnbench.plan.budgets import counts
from gdnbench.plan.spec import RunSpec
from gdnbench.plan.speed import BESIDE_MEASURING, Speeds

# Weights, gradients and two moments, in units of a weight.
COPIES_OF_WEIGHTS = 4
# An interpreter with PyTorch loaded; on a GPU its context, which PyTorch's own count leaves out.
PROCESS_GIB = 0.35
# Seconds to dispatch a step's operations, by two blocks, measured on a CPU core. A GPU's are part of its speed.
DISPATCH_SECONDS = 4e-3
# Width-sized activations that a block keeps for the backward pass, by `gdnbench.plan.spec.Execution.recompute`.
KEPT = {"none": 40, "cheap": 16}
# Copies of the logits, their softmax and their gradients; those of all tokens, or at most these bytes where the loss
# goes by chunks.
LOGIT_COPIES, LOGIT_BYTES = 3, 2**29


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Expected seconds of a run, with as many others as run beside it, and its peak memory."""

    seconds: float
    peak_gib: float


def flops(spec: RunSpec) -> float:
    """Return the FLOPs of a run by formula, evaluation included; not those of the run that it goes on from."""
    if spec.training is not None:
        sizes = counts(spec.model, spec.training.seq_len)
        tokens = (spec.training.steps - spec.first_step) * spec.training.batch_size * spec.training.seq_len
        evaluated = spec.evaluation.sequences * _evaluated_length(spec)
        return tokens * sizes.train_flops_per_token + evaluated * sizes.forward_flops_per_token
    if spec.coordinates is not None:
        tokens = spec.coordinates.batch_size * spec.coordinates.seq_len
        steps = 3 * max(spec.coordinates.after_steps) + len(spec.coordinates.after_steps) + 1
        return steps * tokens * counts(spec.model, spec.coordinates.seq_len).forward_flops_per_token
    assert spec.decode is not None
    tokens = spec.decode.batch_size * (2 * spec.decode.context + spec.decode.tokens)
    return tokens * counts(spec.model, spec.decode.context).forward_flops_per_token


def _evaluated_length(spec: RunSpec) -> int:
    """Return the tokens that are evaluated after training, by sequence."""
    assert spec.training is not None
    seq_len, lengths = spec.training.seq_len, spec.evaluation.lengths
    if spec.data.task is not None:
        return 2 * seq_len + sum(case.seq_len for case in spec.data.task.cases(seq_len, lengths))
    # A text of so many sequences is read once for each length.
    return seq_len * (len(spec.evaluation.splits) + len(lengths))


def at_once(spec: RunSpec, workers: int) -> int:
    """Return how many runs of so many workers are made while this one is: generation is timed alone."""
    return 1 if spec.kind == "decode" else workers


def seconds(spec: RunSpec, speeds: Speeds, workers: int = 1) -> float:
    """Return the expected seconds of a run of so many workers', with what each run costs beside arithmetic."""
    if spec.training is not None and spec.training.seconds is not None:
        return spec.training.seconds
    params = counts(spec.model, _shape(spec)[1]).params_total
    measures = spec.training is None
    beside = BESIDE_MEASURING[spec.device] if measures else speeds.beside(spec.model.arch, params)
    if spec.device == "cpu":
        beside += _steps(spec) * DISPATCH_SECONDS * max(1, spec.model.depth / 2)
    return beside + flops(spec) / speeds.rate(spec.model.arch, params, at_once(spec, workers))


def _steps(spec: RunSpec) -> int:
    """Return the number of times that all of a run's operations are dispatched."""
    if spec.training is not None:
        return spec.training.steps - spec.first_step
    return spec.decode.tokens if spec.decode is not None else 4


def _shape(spec: RunSpec) -> tuple[int, int]:
    """Return the sequences at once and their length."""
    if spec.decode is not None:
        return spec.decode.batch_size, spec.decode.context
    part = spec.training or spec.coordinates
    assert part is not None
    return part.batch_size, part.seq_len


def peak_gib(spec: RunSpec) -> float:
    """Return the expected peak memory in GiB: a process, copies of the weights, and activations kept for backward.

    bfloat16 keeps activations in two bytes beside weights, gradients and moments in four. The loss goes by chunks of
    tokens, so that the logits never exist whole.
    """
    batch, seq_len = _shape(spec)
    batch = min(batch, spec.execution.micro_batch or batch)
    sizes, trains = counts(spec.model, seq_len), spec.decode is None
    weight = 8 if spec.dtype == "float64" else 4
    activation = 2 if spec.dtype == "bfloat16" else weight
    kept = KEPT[spec.execution.recompute] * spec.model.depth if trains else 8
    logits = LOGIT_COPIES * min(LOGIT_BYTES, batch * seq_len * spec.model.vocab_size * weight)
    size = (COPIES_OF_WEIGHTS if trains else 1) * sizes.params_total * weight
    return PROCESS_GIB + (size + batch * seq_len * kept * spec.model.width * activation + logits) / 2**30


def micro_batch_that_fits(spec: RunSpec, total_gib: float, held_gib: float) -> tuple[int, int]:
    """Return a run's sequences of a pass and the most that a device of ``total_gib`` holds, by formula; 0: none.

    What the run held when memory ran out corrects a formula that promised too much.
    """
    batch, seq_len = _shape(spec)
    batch = min(batch, spec.execution.micro_batch or batch)
    weight = 8 if spec.dtype == "float64" else 4
    fixed = COPIES_OF_WEIGHTS * counts(spec.model, seq_len).params_total * weight / 2**30
    each = (max(peak_gib(spec) - PROCESS_GIB, held_gib) - fixed) / batch
    return batch, max(0, min(batch - 1, int((total_gib - PROCESS_GIB - fixed) / each)))


def makespan(costs: Sequence[float], workers: int) -> float:
    """Return the seconds that ``workers`` need for runs of the given seconds, longest first."""
    loads = [0.0] * max(1, workers)
    for cost in sorted(costs, reverse=True):
        loads[loads.index(min(loads))] += cost
    return max(loads)
