"""Gradients and training: finite, nowhere zero, and stable over a few hundred steps and over long sequences."""

import math
import time
from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gdnbench.check.findings import Finding
from gdnbench.check.subject import VOCABULARY, Subject, mixers
from gdnbench.models.decoder import Decoder
from gdnbench.models.mixer import Shared, State

# How many times their usual size inputs are, too: a residual stream grows over depth and training.
LARGER = 30.0
STEPS, RATE, WARMUP, SECONDS = 200, 2.0**-7, 10, 20.0
# A sum over all tokens grows 32-fold from the 64th to the 2048th; an unstable recurrence has no bound.
LONG, EARLY, GROWTH = 2048, 64, 200.0
# The same sum, of a state, at most doubles when a sequence does; what multiplies itself squares.
STATE_GROWTH = 30.0
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


_BOUND = "what a state multiplies itself by may not be above 1: bound the decay, normalize the keys"
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
    """Losses fall over a few hundred steps of AdamW at a common rate, and outputs stay bounded over 2048 tokens."""
    model = subject.decoder(noise=0.0, dtype=torch.float32, width=subject.base_width)
    before = list(_long(model, "at the start"))
    yield from before
    if before:
        return "not trained"
    steps = yield from _training(model)
    if steps:
        yield from _long(model, "after training")
    return "" if steps in (0, STEPS) else f"{steps} of {STEPS} steps in {SECONDS:g} s"


def _training(model: Decoder) -> Generator[Finding, None, int]:
    """Train, for so many seconds of this processor at most; return the steps, 0 where something was found."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    rng, losses, started = torch.Generator().manual_seed(0), list[float](), time.process_time()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARMUP)
        text = _text(8, 65, rng)
        loss = model.loss(text[:, :-1], text[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        losses.append(loss.item())
        if not (math.isfinite(losses[-1]) and norm.isfinite()):
            bad = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
            what = f"the loss is {losses[-1]:.3g}" + (f", the gradient of {bad[0]} is no number" if bad else "")
            yield Finding(place=f"step {step} of training", found=what, remedy=_FINITE)
            return 0
        optimizer.step()
        if time.process_time() - started > SECONDS:
            break
    first, last = _mean(losses[:RECENT]), _mean(losses[-RECENT:])
    if len(losses) > 2 * RECENT and last > first:
        yield Finding(
            place=f"steps {len(losses) - RECENT} to {len(losses)} of training",
            found=f"the loss is {last:.2f}, at first {first:.2f}, at the rate 2^{math.log2(RATE):.0f}",
            remedy="look at what may grow without bound: eigenvalues above 1, an output without a norm",
        )
        return 0
    return len(losses)


@torch.no_grad()
def _long(model: Decoder, when: str) -> Iterator[Finding]:
    """Compare what each mixer puts out late in a long sequence with what it puts out early."""
    random = torch.randint(VOCABULARY, (1, LONG), generator=torch.Generator().manual_seed(3))
    for name, tokens in (("random tokens", random), ("one token again and again", torch.full((1, LONG), 3))):
        for index, size in enumerate(_output_sizes(model, tokens)):
            if not size.isfinite().all():
                at = int((~size.isfinite()).nonzero()[0, 0])
                found = "the output is no number"
            elif size[-EARLY:].mean() > GROWTH * size[:EARLY].mean().clamp_min(1e-30):
                limit = GROWTH * size[:EARLY].mean()
                at = int((size > limit).nonzero()[0, 0])
                found = f"the output is {float(size[-EARLY:].mean() / size[:EARLY].mean()):.1e} times what it was early"
            else:
                continue
            yield Finding(
                place=f"{when}, layer {index}, {name}, position {at} of {LONG}",
                found=found,
                remedy=_BOUND,
            )
            return
        yield from _states(model, tokens, f"{when}, {name}")


def _states(model: Decoder, tokens: Tensor, place: str) -> Iterator[Finding]:
    """Compare states after a sequence with those after its first half; a norm hides from the output how they grow."""
    half = LONG // 2
    _, first = model(tokens[:, :half], model.init_state(1))
    sizes = [{name: float(x.norm()) for name, x in _memory(block).items()} for block in first]
    _, second = model(tokens[:, half:], first)
    for index, (before, block) in enumerate(zip(sizes, second, strict=True)):
        for name, tensor in _memory(block).items():
            if not float(tensor.norm()) <= STATE_GROWTH * max(before[name], 1e-30):
                yield Finding(
                    place=f"{place}, layer {index}, state {name}",
                    found=f"it is {float(tensor.norm()):.1e} after {LONG} tokens, and {before[name]:.1e} after {half}",
                    remedy=_BOUND,
                )
                return


def _memory(block: dict[str, State]) -> dict[str, Tensor]:
    """Return the tensors of a mixer's state that hold numbers."""
    return {name: tensor for name, tensor in block["mixer"].items() if tensor.is_floating_point()}


def _output_sizes(model: Decoder, tokens: Tensor) -> list[Tensor]:
    """Return the length of what each mixer puts out for every one of ``tokens [1, T]``."""
    sizes: list[Tensor] = []

    def keep(_: nn.Module, __: Any, result: Any) -> None:
        sizes.append(result[0][0].norm(dim=-1))

    hooks = [mixer.register_forward_hook(keep) for mixer in mixers(model)]
    try:
        model(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return sizes


def _text(batch: int, time_: int, rng: torch.Generator) -> Tensor:
    """Return text whose next token depends on the one before and on the one eight before: something to learn."""
    text = torch.randint(VOCABULARY, (batch, time_), generator=rng)
    noise = torch.rand(batch, time_, generator=rng)
    for t in range(8, time_):
        known = (5 * text[:, t - 1] + 3) % VOCABULARY
        text[:, t] = torch.where(noise[:, t] < 0.5, known, torch.where(noise[:, t] < 0.8, text[:, t - 8], text[:, t]))
    return text


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
