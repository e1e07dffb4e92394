"""A fingerprint of the mathematics of training: losses of ten steps in float64, and gradient norms by role.

All of a step is in it: starts, tables, the model, the optimizer, the schedule. Sums in another order move it by about
1e-13 of its size, since neither the rates nor AdamW's epsilon let rounding grow; so it is the same on every machine.
"""

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import cast

import numpy as np
import torch

from gdnbench.data import TokenizedCorpus, Tokenizer
from gdnbench.data.token_files import TokenSplit
from gdnbench.measure.training.text import tokens
from gdnbench.plan.spec import RunSpec
from gdnbench.runs.train import Trainer


def fingerprint(spec: RunSpec) -> dict[str, float]:
    """Return the losses of a run's steps in nats, and of each role the root of its gradients' squares over all steps.

    The gradients are those that the optimizer takes, after clipping.
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
    return losses | {f"gradient of {role}": math.sqrt(squares[role]) for role in sorted(squares)}


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
