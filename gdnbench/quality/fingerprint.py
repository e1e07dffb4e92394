"""A fingerprint of a model's mathematics: losses of ten steps in float64, gradient norms by role, and its counts.

All of a step is in it: starts, tables, the model, the optimizer, the schedule; then the model's form for one token.
Sums in another order move it by about 1e-13 of its size, since neither the rates nor AdamW's epsilon let rounding grow;
so it is the same on every machine.
"""

import contextlib
import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from torch.nn import functional

from gdnbench.data import TokenizedCorpus, Tokenizer
from gdnbench.data.token_files import TokenSplit
from gdnbench.measure.training.text import tokens
from gdnbench.models import Decoder
from gdnbench.plan.spec import RunSpec
from gdnbench.runs.train import Trainer

READ = 12  # tokens that are read one at a time
CONTEXT = 1000  # tokens that FLOPs and states are counted for


def fingerprint(spec: RunSpec) -> dict[str, float]:
    """Return numbers by name: the losses of a run's steps in nats, and of each role its gradients over all steps.

    Of the gradients, those that the optimizer takes, it is the root of the sum of squares. Then, of the trained model,
    the loss of a text that is read token by token, and what it states of its parameters, FLOPs and state.
    """
    assert spec.training is not None
    with _starts_in_float64():
        trainer = Trainer(spec, _corpus(spec))
    parameters = dict(trainer.model.named_parameters())
    squares: dict[str, float] = defaultdict(float)
    for _ in range(spec.training.steps):
        trainer.advance()
        for rule in trainer.model.rules:
            gradient = parameters[rule.name].grad if rule.name in parameters else None
            if gradient is not None:
                squares[rule.role] += float(gradient.square().sum())
    losses = {f"loss of step {step}": loss for step, loss in enumerate(trainer.losses, 1)}
    gradients = {f"gradient of {role}": math.sqrt(squares[role]) for role in sorted(squares)}
    return losses | gradients | {"loss by tokens": _by_tokens(trainer)} | _counts(trainer.model)


@torch.no_grad()
def _by_tokens(trainer: Trainer) -> float:
    """Return the loss in nats of a few tokens that the model reads one at a time."""
    text = trainer.sampler.batch(0)[0, : READ + 1]
    state, total = trainer.model.init_state(1), 0.0
    for token, target in itertools.pairwise(text.split(1)):
        logits, state = trainer.model.step(token, state)
        total += float(functional.cross_entropy(logits, target))
    return total / READ


def _counts(model: Decoder) -> dict[str, float]:
    return {
        "parameters": model.parameter_count(embedding=True),
        "FLOPs of a token": model.flops_per_token(CONTEXT),
        "bytes of a state": model.state_bytes(CONTEXT),
    }


@contextlib.contextmanager
def _starts_in_float64() -> Iterator[None]:
    """Let starts be drawn in float64: in float32 the last bits of a normal number depend on the processor."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _corpus(spec: RunSpec) -> TokenizedCorpus:
    """Return random tokens as a train split, a few batches long."""
    assert spec.training is not None
    text = tokens(spec.model.vocab_size, 2 * spec.training.batch_size, spec.training.seq_len + 1, spec.seed)
    split = TokenSplit(tokens=cast(np.memmap, text), manifest={})
    return TokenizedCorpus(
        name="random", corpus_hash="", tokenizer=cast(Tokenizer, None), metadata={}, splits={"train": split}
    )
