"""Whether a model answers what a task's sequences ask: the largest logit, and the loss, at the positions that count."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from gdnbench.data.tasks import NOT_ASKED, Sequences
from gdnbench.evaluate.scoring import evaluating, model_device


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a model answered.

    Attributes:
        right: answers that are right.
        asked: answers in all.
        nll: sum of their negative log likelihoods, in nats.
    """

    right: int
    asked: int
    nll: float

    @property
    def accuracy(self) -> float:
        """Share of the answers that are right."""
        return self.right / self.asked

    @property
    def loss(self) -> float:
        """Mean negative log likelihood, in nats an answer."""
        return self.nll / self.asked


def answer(model: Any, sequences: Sequences, *, batch_tokens: int, first: int = 0) -> Answers:
    """Return how a model answers what sequences ask from position ``first`` on.

    The answer is the token of the largest logit among all of the vocabulary; in float32 or wider, of equal ones the
    first. ``batch_tokens`` are read at once, at least one sequence. Autocast is the caller's, but not for the head,
    which it would round.
    """
    inputs, targets = sequences.inputs, sequences.targets
    targets = np.where(np.arange(targets.shape[1]) < first, NOT_ASKED, targets)
    batch_size = max(1, batch_tokens // inputs.shape[1])
    device, right, nll = model_device(model), 0, 0.0
    with evaluating(model):
        for begin in range(0, len(inputs), batch_size):
            tokens = torch.from_numpy(inputs[begin : begin + batch_size]).to(device)
            wanted = torch.from_numpy(targets[begin : begin + batch_size]).to(device)
            logits, wanted = asked_logits(model, tokens, wanted != NOT_ASKED), wanted[wanted != NOT_ASKED]
            right += int((logits.argmax(-1) == wanted).sum())
            nll += float(functional.cross_entropy(logits, wanted, reduction="sum").double())
    return Answers(right=right, asked=int((targets != NOT_ASKED).sum()), nll=nll)


def asked_logits(model: Any, tokens: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Return the logits ``[n, vocabulary]`` of the positions that ``asked`` [B, T] marks, row by row.

    Of a decoder, only these are computed, in the type of its weights; any other module maps tokens to logits
    ``[B, T, vocabulary]`` and a state.
    """
    logits: torch.Tensor
    if hasattr(model, "hidden"):
        x = model.hidden(tokens)[asked]
        with torch.autocast(tokens.device.type, enabled=False):
            logits = model.logits(x.to(next(model.parameters()).dtype))
    else:
        logits = model(tokens)[0][asked]
    return logits
