"""What a mixer reads and carries on: nothing of the future or of other rows, and the same by steps and in parts."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from gdnbench.check.findings import Finding
from gdnbench.check.subject import VOCABULARY, Subject, mixers
from gdnbench.models.decoder import Decoder
from gdnbench.words import plural

# Around the borders of chunks of 16, 32, 64, 128 and 256 tokens.
LENGTHS = (2, 17, 65, 130, 258)
POSITIONS = (1, 2, 15, 16, 17, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257)
# Relative. Forms that reorder sums (a Fourier transform) differ by roundings of float64, and no leak by so little.
EXACT, EQUAL = 1e-12, 1e-8
PREFIXES = (1, 2, 17, 64, 65)


def shapes(subject: Subject) -> Iterator[Finding]:
    """Each layer maps [B, T, D] to [B, T, D] and leaves a state only where it was given one, also for one token."""
    model, width = subject.exact, 2 * subject.base_width
    for index, mixer in enumerate(mixers(model)):
        for time in (1, 3):
            x = torch.randn(2, time, width, dtype=torch.float64)
            place = f"layer {index}, {plural(time, 'token')}"
            with torch.no_grad():
                yield from _shape(mixer(x), (2, time, width), None, f"{place}, forward")
                state = mixer.init_state(2)
                yield from _shape(mixer(x, state), (2, time, width), state, f"{place}, forward with a state")
                state = mixer.init_state(2)
                yield from _shape(mixer.step(x[:, 0], state), (2, width), state, f"{place}, step")


def _shape(found: Any, expected: tuple[int, ...], state: Any, place: str) -> Iterator[Finding]:
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Tensor)):
        yield Finding(
            place=place, found=f"it returns {type(found).__name__}", remedy="return the output and the state, or None"
        )
        return
    y, carried = found
    if tuple(y.shape) != expected:
        yield Finding(
            place=place,
            found=f"the output has shape {list(y.shape)}",
            remedy=f"it should have that of the input, {list(expected)}",
        )
    if state is None and carried is not None:
        yield Finding(place=place, found="it returns a state that nobody asked for", remedy="return None without one")
    if state is not None and (carried is None or set(carried) != set(state)):
        names = "None" if carried is None else sorted(carried)
        yield Finding(
            place=place,
            found=f"the new state has {names}",
            remedy=f"it should have what init_state has: {sorted(state)}",
        )


@torch.no_grad()
def causality(subject: Subject) -> Iterator[Finding]:
    """A token changes nothing before it: every output, at lengths and positions around the borders of chunks."""
    model = subject.exact
    for time in LENGTHS:
        tokens = subject.tokens(1, time)
        positions = [p for p in POSITIONS if p < time]
        changed = tokens.repeat(len(positions), 1)
        for row, position in enumerate(positions):
            changed[row, position] = (tokens[0, position] + 1) % VOCABULARY
        before, together = model(tokens)[0], model(changed)[0]
        for row, position in enumerate(positions):
            # At once, for speed; once more alone, in case that rows are mixed, which is another check's finding.
            if _first_difference(together[row : row + 1, :position], before[:, :position], EXACT) is None:
                continue
            alone = model(changed[row : row + 1])[0]
            difference = _first_difference(alone[:, :position], before[:, :position], EXACT)
            if difference is not None:
                at, size = difference
                yield Finding(
                    place=f"position {at} of {plural(time, 'token')}",
                    found=f"another token at position {position} changes it by {size:.1e} of its size",
                    remedy="the output at t may read tokens up to t only: look for a missing mask, a roll, padding on "
                    "both sides, or sums and norms over time",
                )
                return


def causality_of_gradients(subject: Subject) -> Iterator[Finding]:
    """No gradient flows from an output to a later input, in the form that training runs."""
    model = subject.exact
    tokens = subject.tokens(1, 67)
    for index, mixer in enumerate(mixers(model)):
        x = model.embedding(tokens).detach().requires_grad_()
        y = mixer(x)[0]
        for position in (0, 1, 15, 31, 63, 65):
            (gradient,) = torch.autograd.grad(y[:, position].sum(), x, retain_graph=True, allow_unused=True)
            if gradient is None:
                continue
            sizes = gradient[0].norm(dim=-1)
            later = sizes[position + 1 :]
            if later.max() > EXACT * sizes.max():
                yield Finding(
                    place=f"layer {index}, output at position {position}",
                    found=f"it has a gradient by the input at position {position + 1 + int(later.argmax())}",
                    remedy="the output at t may read tokens up to t only",
                )
                return


@torch.no_grad()
def steps(subject: Subject) -> Iterator[Finding]:
    """Token by token, by `step` from `init_state`, it gives what the whole sequence gives."""
    model, tokens = subject.exact, subject.tokens(2, 67)
    expected = model(tokens)[0]
    found = _by_steps(model, tokens, model.init_state(2))
    yield from _differs(found, expected, 0, "by steps from init_state", "step and forward")


@torch.no_grad()
def parts(subject: Subject) -> Iterator[Finding]:
    """A sequence in parts, each continued from the state after the last, is the whole: by forward and by step."""
    model, tokens = subject.exact, subject.tokens(2, 72)
    expected = model(tokens)[0]
    for prefix in PREFIXES:
        first, state = model(tokens[:, :prefix], model.init_state(2))
        given = plural(prefix, "token")
        yield from _differs(first, expected, 0, f"forward with a state over {given}", "forward with and without")
        branch = copy.deepcopy(state)
        found = _by_steps(model, tokens[:, prefix : prefix + 5], branch)
        yield from _differs(found, expected, prefix, f"steps from the state after {given}", "step and forward")
        middle, state = model(tokens[:, prefix:68], state)
        place = f"forward from the state after {given}"
        yield from _differs(middle, expected, prefix, place, "forward with and without a state")
        found = _by_steps(model, tokens[:, 68:], state)
        yield from _differs(found, expected, 68, f"steps from the state that {place} left", "step and forward")


@torch.no_grad()
def rows(subject: Subject) -> Iterator[Finding]:
    """A sequence gives the same whatever stands in the other rows of the batch."""
    model, tokens = subject.exact, subject.tokens(3, 19)
    together = model(tokens)[0]
    for row in range(3):
        difference = _first_difference(together[row : row + 1], model(tokens[row : row + 1])[0], EQUAL)
        if difference is not None:
            yield Finding(
                place=f"row {row} of 3, position {difference[0]}",
                found=f"alone in the batch it differs by {difference[1]:.1e} of its size",
                remedy="rows may not be mixed: look for sums, norms or reshapes over the first dimension",
            )
            return


@torch.no_grad()
def determinism(subject: Subject) -> Iterator[Finding]:
    """Two calls, and two models of one seed, give the same bits."""
    tokens = subject.tokens(2, 33)
    first, again = subject.exact(tokens)[0], subject.exact(tokens)[0]
    torch.manual_seed(1)  # not what the first one was built after: a start may use the generator that is given only
    other = subject.decoder()(tokens)[0]
    for found, place in ((again, "a second call"), (other, "a second model of the same seed")):
        if not torch.equal(first, found):
            yield Finding(
                place=place,
                found="it gives other numbers",
                remedy="draw nothing at random in forward, keep nothing between calls, and start parameters by their "
                "role's init, which has a seed",
            )
            return


def _by_steps(model: Decoder, tokens: Tensor, state: list[Any]) -> Tensor:
    logits = []
    for t in range(tokens.shape[1]):
        one, state = model.step(tokens[:, t], state)
        logits.append(one)
    return torch.stack(logits, 1)


def _differs(found: Tensor, whole: Tensor, start: int, place: str, between: str) -> Iterator[Finding]:
    difference = _first_difference(found, whole[:, start : start + found.shape[1]], EQUAL)
    if difference is not None:
        yield Finding(
            place=f"{place}: position {start + difference[0]}",
            found=f"it differs from the whole sequence by {difference[1]:.1e} of its size (float64)",
            remedy=f"{between} must compute the same: look at what the state leaves out and at the order of reading "
            "and writing it",
        )


def _first_difference(found: Tensor, expected: Tensor, limit: float) -> tuple[int, float] | None:
    """Return the first position of ``[B, T, ...]`` off by more than a share of the largest number, and that share."""
    size = expected.abs().max().clamp_min(1e-30)
    errors = ((found - expected).abs() / size).amax(dim=(0, *range(2, found.ndim)))
    # What is no number differs, too.
    wrong = ~(errors <= limit)
    if not wrong.any():
        return None
    at = int(wrong.nonzero()[0, 0])
    return at, float(errors[at])
