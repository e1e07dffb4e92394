"""Negative log likelihood of every token of a text, in windows that score each token exactly once.

Shapes: B windows of a batch, T inputs of a window, V vocabulary. All likelihoods are in nats.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from gdnbench.errors import GdnbenchError

PART = 1024  # targets whose logits exist at once

# Called with the tokens scored so far and the tokens in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Positions in separator + tokens: the model reads [start, end - 1) and is scored on its targets [first, end)."""

    document: int
    start: int
    first: int
    end: int


Scored = Iterator[tuple[list[Window], list[np.ndarray]]]
Values = Callable[[Any, torch.Tensor, torch.Tensor, torch.Tensor], np.ndarray]


def token_nll(
    model: Any,
    tokens: np.ndarray,
    *,
    separator: int,
    window: int,
    stride: int,
    batch_size: int,
    carry_state: bool = False,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return the negative log likelihood of each of ``tokens`` [n], float64 [n], as one document.

    The model first reads ``separator``, so the first token is scored too. See `score_documents`.
    """
    return score_documents(
        model,
        [tokens],
        separator=separator,
        window=window,
        stride=stride,
        batch_size=batch_size,
        carry_state=carry_state,
        progress=progress,
    )[0]


def score_documents(
    model: Any,
    documents: Sequence[np.ndarray],
    *,
    separator: int,
    window: int,
    stride: int,
    batch_size: int,
    carry_state: bool = False,
    progress: Progress | None = None,
) -> list[np.ndarray]:
    """Return the negative log likelihood of each token of each document, float64, with no context across documents.

    Each document begins with ``separator`` as unscored context. A window holds at most ``window`` inputs and scores
    ``stride`` tokens, the first of a document up to ``window``; so a token has at least ``window - stride`` tokens
    before it unless its document starts there. The last window is moved back to be full. ``carry_state=True`` reads
    each document in disjoint windows instead and hands the state on, so the context has no limit; it needs
    ``stride == window``. Where the model's parameters are, it computes; autocast is the caller's.
    """
    if not 1 <= stride <= window or batch_size < 1:
        raise GdnbenchError(
            f"scoring: window {window}, stride {stride}, batch_size {batch_size}: "
            f"expected 1 <= stride <= window and batch_size >= 1"
        )
    if carry_state and stride != window:
        raise GdnbenchError(f"scoring with carried state: stride {stride} must equal window {window}")
    inputs = [np.concatenate([[separator], tokens]).astype(np.int64) for tokens in documents]
    scores = [np.full(len(tokens), np.nan) for tokens in documents]
    batches = _carried if carry_state else _windowed
    done, total = 0, sum(map(len, documents))
    with evaluating(model):
        for spans, values in batches(model, inputs, window, stride, batch_size):
            for span, value in zip(spans, values):
                scores[span.document][span.first - 1 : span.end - 1] = value
            done += sum(map(len, values))
            if progress is not None:
                progress(done, total)
    return scores


def plan_windows(length: int, *, window: int, stride: int, document: int = 0, context: int = 1) -> list[Window]:
    """Return the windows that score ``length`` tokens after ``context`` others, each exactly once, in order.

    A window reads as many of the tokens before its first target as it holds. Empty for length 0.
    """
    windows: list[Window] = []
    first = context
    while first < context + length:
        end = min(first + (window if first == context else stride), context + length)
        windows.append(Window(document=document, start=max(0, end - 1 - window), first=first, end=end))
        first = end
    return windows


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Put ``model`` into evaluation mode without gradients for the block, then back into the mode it had."""
    training = getattr(model, "training", False)
    if hasattr(model, "eval"):
        model.eval()
    try:
        # Not inference_mode: a table that the model caches here must stay usable in training.
        with torch.no_grad():
            yield
    finally:
        if training:
            model.train()


def model_device(model: Any) -> torch.device:
    """Return the device of the model's first parameter, or the CPU for a model without any."""
    parameters = model.parameters() if hasattr(model, "parameters") else iter(())
    return next((parameter.device for parameter in parameters), torch.device("cpu"))


def position_nll(model: Any, tokens: torch.Tensor, targets: torch.Tensor, counted: torch.Tensor) -> np.ndarray:
    """Return the negative log likelihoods of the targets that count, in nats, float64 [counted], row by row.

    Args:
        model: a decoder, or any module that maps tokens to logits [B, T, V] and a state.
        tokens: inputs, int64 [B, T], on the model's device, as all that follows.
        targets: what follows each input, int64 [B, T].
        counted: which targets are scored, bool [B, T].
    """
    if not hasattr(model, "scores"):
        return target_nll(model(tokens)[0][counted], targets[counted])
    _check_vocabulary(int(targets.max()), model.config.vocab_size)
    return model.scores(tokens, targets)[counted].double().cpu().numpy()


def position_choices(model: Any, tokens: torch.Tensor, targets: torch.Tensor, counted: torch.Tensor) -> np.ndarray:
    """Return what `position_nll` does, and beside each whether no token is likelier (1 or 0): float64 [counted, 2].

    Logits of the counted targets alone exist, a part at a time, in the type of the weights.
    """
    _check_vocabulary(int(targets.max()), model.config.vocab_size)
    hidden, wanted = model.hidden(tokens)[counted], targets[counted]
    found = []
    with torch.autocast(hidden.device.type, enabled=False):
        for x, target in zip(hidden.split(PART), wanted.split(PART), strict=True):
            logits = model.logits(x.to(model.embedding.weight.dtype))
            greedy = logits.gather(-1, target[:, None])[:, 0] >= logits.amax(-1)
            found.append(np.stack([target_nll(logits, target), greedy.double().cpu().numpy()], axis=1))
    return np.concatenate(found) if found else np.zeros((0, 2))


def target_nll(logits: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    """Return the negative log likelihoods of ``targets`` [N] under ``logits`` [N, V], float64 [N]."""
    _check_vocabulary(int(targets.max()), logits.shape[-1])
    losses = functional.cross_entropy(logits.float(), targets.to(logits.device), reduction="none")
    return losses.double().cpu().numpy()


def _check_vocabulary(largest: int, size: int) -> None:
    if largest >= size:
        raise GdnbenchError(
            f"scoring: token id {largest}, but the model's vocabulary has {size}; "
            f"use the tokenizer that it was trained with"
        )


def score_windows(
    model: Any,
    inputs: Sequence[np.ndarray],
    windows: Sequence[Window],
    *,
    batch_size: int,
    values: Values = position_nll,
) -> Scored:
    """Yield batches of windows, the longest first, with what ``values`` says of the targets of each.

    ``inputs`` are the documents that the windows are of, int64 [tokens]. Put the model into `evaluating` around it.
    """
    # Windows of like length share a batch, so that little is padded.
    ordered = sorted(windows, key=lambda span: span.start - span.end)
    for begin in range(0, len(ordered), batch_size):
        group = ordered[begin : begin + batch_size]
        yield group, _score(model, inputs, group, None, values)[0]


def _windowed(model: Any, inputs: list[np.ndarray], window: int, stride: int, batch_size: int) -> Scored:
    spans = [
        span
        for document, row in enumerate(inputs)
        for span in plan_windows(len(row) - 1, window=window, stride=stride, document=document)
    ]
    yield from score_windows(model, inputs, spans, batch_size=batch_size)


def _carried(model: Any, inputs: list[np.ndarray], window: int, stride: int, batch_size: int) -> Scored:
    order = sorted(range(len(inputs)), key=lambda document: -len(inputs[document]))
    for begin in range(0, len(order), batch_size):
        group = order[begin : begin + batch_size]
        state = model.init_state(len(group))
        for start in range(0, len(inputs[group[0]]) - 1, window):
            spans = [_disjoint(document, start, len(inputs[document]), window) for document in group]
            values, state = _score(model, inputs, spans, state)
            yield spans, values


def _disjoint(document: int, start: int, length: int, window: int) -> Window:
    """Return the window that begins at ``start``, empty for a document that has ended before."""
    start = min(start, length - 1)
    return Window(document=document, start=start, first=start + 1, end=min(start + 1 + window, length))


def _score(
    model: Any, inputs: Sequence[np.ndarray], spans: list[Window], state: Any, values_of: Values = position_nll
) -> tuple[list[np.ndarray], Any]:
    """Run one batch of windows and return the scored values of each, and the model's new state."""
    longest = max(span.end - 1 - span.start for span in spans)
    # Padding stands behind what is scored: a causal model never sees it, and a finished row's state is not used.
    read = np.zeros((len(spans), longest), dtype=np.int64)
    target = np.zeros_like(read)
    scored = np.zeros(read.shape, dtype=bool)
    for row, span in enumerate(spans):
        size = span.end - 1 - span.start
        read[row, :size] = inputs[span.document][span.start : span.end - 1]
        target[row, :size] = inputs[span.document][span.start + 1 : span.end]
        scored[row, span.first - 1 - span.start : size] = True
    device = model_device(model)
    tokens = torch.from_numpy(read).to(device)
    targets, counted = torch.from_numpy(target).to(device), torch.from_numpy(scored).to(device)
    if state is None:
        values = values_of(model, tokens, targets, counted)
    else:
        logits, state = model(tokens, state)
        values = target_nll(logits[counted], targets[counted])
    return np.split(values, np.cumsum(scored.sum(axis=1))[:-1]), state
