"""Loss of a text by position: what a model makes of context longer than that of its training."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gdnbench.evaluate.scoring import evaluating, model_device, position_nll
from gdnbench.evaluate.validation import window_starts


@dataclass(frozen=True, kw_only=True)
class PositionBin:
    """Mean loss of the targets after ``first`` to ``last`` tokens of context, in nats; over ``tokens`` targets."""

    first: int
    last: int
    loss: float
    tokens: int


def losses_at(
    model: Any, tokens: np.ndarray, *, lengths: Sequence[int], sequences: int, batch_tokens: int
) -> dict[int, np.ndarray]:
    """Return for each length the losses of the same targets, read in windows so long: nats, float64 [windows, length].

    Args:
        model: a decoder, or any module that maps tokens to logits and a state.
        tokens: the text [n].
        lengths: targets of a window, divisors of the longest. Each window is read without any context before it.
        sequences: windows of the longest, disjoint and spread evenly over the text; the others are pieces of these.
        batch_tokens: tokens that are read at once; at least one window is.
    """
    longest = max(lengths)
    starts = window_starts(len(tokens), seq_len=longest, sequences=sequences)
    return {
        length: _window_losses(
            model,
            np.stack([tokens[s + cut : s + cut + length + 1] for s in starts for cut in range(0, longest, length)]),
            batch_tokens,
        )
        for length in sorted(set(lengths))
    }


def position_bins(losses: Mapping[int, np.ndarray]) -> list[PositionBin]:
    """Return mean losses by position, in bins that are half an octave wide, of what `losses_at` returned.

    Position 1 is the target after the first token. Each bin is of the shortest windows that reach it, of which there
    are most; no bin goes over the end of a length.
    """
    longest = max(losses)
    halves = {min(longest, round(2 ** (step / 2))) for step in range(2 * longest.bit_length() + 2)}
    edges = sorted(halves | losses.keys())
    found = []
    for low, high in itertools.pairwise([0, *edges]):
        values = losses[min(length for length in losses if length >= high)][:, low:high]
        found.append(PositionBin(first=low + 1, last=high, loss=float(values.mean()), tokens=values.size))
    return found


def _window_losses(model: Any, windows: np.ndarray, batch_tokens: int) -> np.ndarray:
    """Return the negative log likelihoods of windows ``[n, length + 1]``, float64 [n, length]."""
    device, length = model_device(model), windows.shape[1] - 1
    batch_size, found = max(1, batch_tokens // length), []
    with evaluating(model):
        for begin in range(0, len(windows), batch_size):
            rows = torch.from_numpy(windows[begin : begin + batch_size].astype(np.int64)).to(device)
            every = torch.ones_like(rows[:, 1:], dtype=torch.bool)
            found.append(position_nll(model, rows[:, :-1], rows[:, 1:], every).reshape(-1, length))
    return np.concatenate(found)
