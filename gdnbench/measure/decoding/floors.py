"""The floor of generation: the time below which no implementation of the model gets, from bytes and operations.

A token of every row reads each weight once and each row's state or cache once, and writes the state, or the token's
part of the cache, once. A table of token vectors that is no head is read in one row for each row of the batch. What
layers hand on is taken to stay in the chip. So a step takes at least max(bytes / read bandwidth, operations / matmul
rate), both measured in the run that compares with it. A prompt takes at least its operations / matmul rate.
"""

import functools
import json

from gdnbench.configuration import canonical_json, from_mapping
from gdnbench.measure.decoding.case import DecodeCase
from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.models.config import ModelConfig
from gdnbench.models.decoder import Decoder, on_meta


def counted(model: ModelConfig) -> Decoder:
    """Return a decoder without memory, to count what it has; the last few are kept."""
    return _counted(canonical_json(model))


@functools.lru_cache(maxsize=4)
def _counted(model: str) -> Decoder:
    return on_meta(from_mapping(ModelConfig, json.loads(model)))


def row_bytes(case: DecodeCase, context: int) -> int:
    """Return the bytes of one row's state after ``context`` tokens, by the mixers' formulas."""
    return case.demand().row_bytes(counted(case.model), context)


def least_bytes(case: DecodeCase) -> int:
    """Return the bytes of the weights and of all rows' states at their ends: what must be held at once."""
    memory = case.demand().memory(counted(case.model))
    return memory.weights + memory.state


def step_bytes(case: DecodeCase, context: int) -> int:
    """Return the bytes that one token of every row moves, after ``context`` tokens.

    Of a state it is what stands there, read; what does not grow with the context, written again; and what one more
    token adds, written. So a recurrent state counts twice, and a cache once and one token.
    """
    model, config = counted(case.model), case.model
    fixed, at, after = (row_bytes(case, length) for length in (0, context, context + 1))
    weights = case.demand().memory(model).weights
    if not config.tied:
        element = case.demand().dtype.itemsize
        weights -= (config.vocab_size - case.batch) * config.width * element
    return weights + case.batch * (at + fixed + (after - at))


def step_flops(case: DecodeCase, context: int) -> int:
    """Return the operations of one token of every row, after ``context`` tokens.

    Formulas average over a sequence: one of twice the length sees on average what this token sees.
    """
    return case.batch * counted(case.model).flops_per_token(2 * context + 1)


def step_floor_s(case: DecodeCase, context: int, read_gb_s: float, calibration: Calibration) -> float:
    """Return the least seconds of one token of every row, after ``context`` tokens.

    Args:
        case: the model, its rows and its types.
        context: tokens that each row has seen.
        read_gb_s: measured bandwidth of reading.
        calibration: for the measured matmul rate.
    """
    moving = step_bytes(case, context) / (1e9 * read_gb_s)
    return max(moving, step_flops(case, context) / (1e12 * calibration.matmul_tflop_s))


def prefill_flops(case: DecodeCase, rows: int) -> int:
    """Return the operations of so many prompts: the layers' for every token, the head's for the last."""
    model, context = counted(case.model), case.context
    head = 2 * case.model.width * case.model.vocab_size
    return rows * (context * (model.flops_per_token(context) - head) + head)


def prefill_floor_s(case: DecodeCase, rows: int, calibration: Calibration) -> float:
    """Return the least seconds of feeding so many prompts."""
    return prefill_flops(case, rows) / (1e12 * calibration.matmul_tflop_s)
