"""Generation in a study: time by token after a prompt, and the size of the state, by the generation engine."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gdnbench.inference import Engine
from gdnbench.models import Decoder

WARM_UP = 5  # tokens generated before the clock starts: on a GPU the fourth step becomes a graph


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What generation took: prompt tokens per second, and by generated token the median and 99th percentile in ms."""

    prefill_tokens_per_s: float
    tokens_per_s: float
    ms_per_token_p50: float
    ms_per_token_p99: float
    state_bytes: int


def measure(
    model: Decoder,
    prompt: Tensor,
    tokens: int,
    beat: Callable[[float], None] = lambda fraction: None,
    *,
    dtype: torch.dtype = torch.float32,
) -> Speed:
    """Feed ``prompt [B, T]``, then generate ``tokens`` greedily, one step each; the engine takes the model over.

    The prompt is fed twice and timed the second time. ``tokens_per_s`` counts all sequences of the batch; a step's
    time includes choosing the token. ``state_bytes`` is the whole batch's, by the mixers' formula, after the prompt.
    """
    device = prompt.device
    batch, context = prompt.shape
    engine = Engine(model, batch_size=batch, capacity=context + WARM_UP + tokens, dtype=dtype)
    for _ in range(2):
        started = _clock(device)
        engine.prefill(prompt)
        prefill = _clock(device) - started
    marks = []

    def mark(step: int) -> None:
        marks.append(_clock(device))
        beat(step / (WARM_UP + tokens))

    engine.advance(WARM_UP + tokens, each=mark)
    times = sorted(after - before for before, after in zip(marks[WARM_UP - 1 :], marks[WARM_UP:], strict=False))
    return Speed(
        prefill_tokens_per_s=batch * context / prefill,
        tokens_per_s=batch / statistics.median(times),
        ms_per_token_p50=1e3 * statistics.median(times),
        ms_per_token_p99=1e3 * times[min(len(times) - 1, round(0.99 * len(times)))],
        state_bytes=batch * engine.demand.row_bytes(model, context),
    )


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
