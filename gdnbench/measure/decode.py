"""Generation: time by token after a prompt, the size of the state, and peak memory."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gdnbench.models import Decoder

WARM_UP = 3  # tokens generated before the clock starts


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What generation took: prompt tokens per second, and by generated token the median and 99th percentile in ms."""

    prefill_tokens_per_s: float
    tokens_per_s: float
    ms_per_token_p50: float
    ms_per_token_p99: float
    state_bytes: int


@torch.no_grad()
def measure(
    model: Decoder,
    prompt: Tensor,
    tokens: int,
    beat: Callable[[float], None] = lambda fraction: None,
) -> Speed:
    """Feed ``prompt [B, T]``, then generate ``tokens`` greedily, one step each.

    The prompt is fed twice and timed the second time. ``tokens_per_s`` counts all sequences of the batch; a step's
    time includes choosing the token. ``state_bytes`` is the whole batch's, by the mixers' formula, after the prompt.
    """
    device = prompt.device
    batch, context = prompt.shape
    for _ in range(2):
        started = _clock(device)
        logits, state = model(prompt, model.init_state(batch))
        prefill = _clock(device) - started
    assert state is not None
    token = logits[:, -1].argmax(-1)
    element = logits.element_size()
    times = []
    for index in range(WARM_UP + tokens):
        started = _clock(device)
        logits, state = model.step(token, state)
        token = logits.argmax(-1)
        times.append(_clock(device) - started)
        beat(index / (WARM_UP + tokens))
    times = sorted(times[WARM_UP:])
    return Speed(
        prefill_tokens_per_s=batch * context / prefill,
        tokens_per_s=batch / statistics.median(times),
        ms_per_token_p50=1e3 * statistics.median(times),
        ms_per_token_p99=1e3 * times[min(len(times) - 1, round(0.99 * len(times)))],
        state_bytes=batch * model.state_bytes(context, element),
    )


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
