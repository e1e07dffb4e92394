"""Gradients and training: finite, nowhere zero, and stable over a few hundred steps and over long sequences."""

import math
import statistics
import time
from collections.abc import Generator, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from gdnbench.check.findings import Finding
from gdnbench.check.long import unbounded
from gdnbench.check.subject import VOCABULARY, Subject, mixers
from gdnbench.models.decoder import Decoder
from gdnbench.models.mixer import Shared

# How many times their usual size inputs are, too: a residual stream grows over depth and training.
LARGER = 30.0
# Some mixers are unstable from some starts only. Seconds, of this processor, are those of all seeds together.
SEEDS, STEPS, BATCH, RATE, WARMUP, SECONDS = 3, 200, 4, 2.0**-7, 10, 25.0
RECENT = 20


def gradients(subject: Subject) -> Iterator[Finding]:
    """Every parameter has a finite gradient that is not zero, also at inputs that are larger, and over 130 tokens."""
    model = subject.decoder()
    for factor, time_ in ((1.0, 67), (LARGER, 67), (1.0, 130)):
        shared: Shared = {}
        for index, mixer in enumerate(mixers(model)):
            x = factor * torch.randn(2, time_, 2 * subject.base_width, dtype=torch.float64)
            names, leaves = zip(*mixer.named_parameters(), strict=True)
            y, _ = mixer(x.requires_grad_(), None, shared)
            weights = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
            place = f"layer {index}, inputs of size {factor:g}, {time_} tokens"
            if not y.isfinite().all():
                at = int((~y.isfinite()).any(-1).any(0).nonzero()[0, 0])
                yield Finding(place=f"{place}, position {at}", found="the output is no number", remedy=_FINITE)
                return
            found = torch.autograd.grad((weights * y).sum(), [*leaves, x], allow_unused=True)
            yield from _gradients(dict(zip((*names, "x"), found, strict=True)), place, only_finite=factor > 1)


_FINITE = "look for divisions by what may be zero, roots and logarithms of it, and exponentials without a bound"


def _gradients(found: dict[str, Tensor | None], place: str, *, only_finite: bool) -> Iterator[Finding]:
    for name, gradient in found.items():
        if gradient is not None and not gradient.isfinite().all():
            yield Finding(place=f"{place}, {name}", found="its gradient is no number", remedy=_FINITE)
            return
        if not only_finite and (gradient is None or not gradient.any()):
            yield Finding(
                place=f"{place}, {name}",
                found="it has no gradient" if gradient is None else "its gradient is zero",
                remedy="use it, or leave it out: a detach, an integer type or no_grad may cut it off",
            )


def stability(subject: Subject) -> Generator[Finding, None, str]:
    """At every seed, losses fall over a few hundred steps at a common rate, and outputs and states stay bounded."""
    steps, ends = 0, time.process_time() + SECONDS
    for seed in range(1, SEEDS + 1):
        model = subject.decoder(noise=0.0, dtype=torch.float32, seed=seed, width=subject.base_width)
        when, found = "at the start", unbounded(model, whole=seed == 1)
        if found is None:
            made, found = _training(model, seed, ends)
            steps += made
            when, found = ("training", found) if found else ("after training", unbounded(model))
        if found is not None:
            yield replace(found, place=f"seed {seed} of {SEEDS}, {when}, {found.place}")
        if time.process_time() > ends:
            break
    return "" if steps == SEEDS * STEPS else f"{steps} of the {SEEDS * STEPS} steps of {SEEDS} seeds in {SECONDS:g} s"


def _training(model: Decoder, seed: int, ends: float) -> tuple[int, Finding | None]:
    """Train until this processor's clock says ``ends`` at most; return the steps, and what was found."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    losses = list[float]()
    for step, text in enumerate(_text(STEPS * BATCH, 65, torch.Generator().manual_seed(seed)).split(BATCH)):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARMUP)
        loss = model.loss(text[:, :-1], text[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        losses.append(loss.item())
        if not (math.isfinite(losses[-1]) and norm.isfinite()):
            bad = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
            what = f"the loss is {losses[-1]:.3g}" + (f", the gradient of {bad[0]} is no number" if bad else "")
            return step, Finding(place=f"step {step}", found=what, remedy=_FINITE)
        optimizer.step()
        if time.process_time() > ends:
            break
    return len(losses), _risen(losses)


def _risen(losses: list[float]) -> Finding | None:
    """Return the finding that the last losses are above the first, if they are and there are some between."""
    first, last = statistics.mean(losses[:RECENT]), statistics.mean(losses[-RECENT:])
    if len(losses) <= 2 * RECENT or last <= first:
        return None
    return Finding(
        place=f"steps {len(losses) - RECENT} to {len(losses)}",
        found=f"the loss is {last:.2f}, at first {first:.2f}, at the rate 2^{math.log2(RATE):.0f}",
        remedy="look at what may grow without bound: eigenvalues above 1, an output without a norm",
    )


def _text(batch: int, time_: int, rng: torch.Generator) -> Tensor:
    """Return text whose next token depends on the one before and on the one eight before: something to learn."""
    text = torch.randint(VOCABULARY, (batch, time_), generator=rng)
    noise = torch.rand(batch, time_, generator=rng)
    for t in range(8, time_):
        known = (5 * text[:, t - 1] + 3) % VOCABULARY
        text[:, t] = torch.where(noise[:, t] < 0.5, known, torch.where(noise[:, t] < 0.8, text[:, t - 8], text[:, t]))
    return text
