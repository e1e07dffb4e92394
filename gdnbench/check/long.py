"""Long sequences: what a mixer puts out and keeps stays bounded, whatever the length."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gdnbench.check.findings import Finding
from gdnbench.check.subject import VOCABULARY, mixers
from gdnbench.models.decoder import Decoder
from gdnbench.models.mixer import State

# A sum over all tokens grows 32-fold from the 64th to the 2048th; an unstable recurrence has no bound.
LONG, EARLY, GROWTH = 2048, 64, 200.0
# The same sum, of a state, at most doubles when a sequence does; what multiplies itself squares.
STATE_GROWTH = 30.0
REMEDY = "what a state multiplies itself by may not be above 1: bound the decay, normalize the keys"


@torch.no_grad()
def unbounded(model: Decoder, *, whole: bool = False) -> Finding | None:
    """Compare what each mixer puts out and keeps late in long sequences with that of early tokens; return the first.

    A sequence goes in two halves with a state; where ``whole``, first at once without one.
    """
    random = torch.randint(VOCABULARY, (1, LONG), generator=torch.Generator().manual_seed(3))
    for name, tokens in (("random tokens", random), ("one token again and again", torch.full((1, LONG), 3))):
        if whole and (found := next(_outputs(_read(model, [tokens], None)[0], name), None)):
            return found
        sizes, states = _read(model, tokens.split(LONG // 2, 1), model.init_state(1))
        if found := next(_outputs(sizes, name), None) or next(_states(states, name), None):
            return found
    return None


def _read(
    model: Decoder, parts: Sequence[Tensor], state: list[dict[str, State]] | None
) -> tuple[list[Tensor], list[list[dict[str, float]]]]:
    """Read one sequence in parts.

    Returns:
        The length of what each mixer puts out for every token; and after each part the sizes of each mixer's states.
    """
    sizes: dict[nn.Module, list[Tensor]] = {mixer: [] for mixer in mixers(model)}

    def keep(mixer: nn.Module, _: Any, result: Any) -> None:
        sizes[mixer].append(result[0][0].norm(dim=-1))

    hooks = [mixer.register_forward_hook(keep) for mixer in sizes]
    states = []
    try:
        for part in parts:
            _, state = model(part, state)
            states.append([_memory(block) for block in state or []])
    finally:
        for hook in hooks:
            hook.remove()
    return [torch.cat(size) for size in sizes.values()], states


def _memory(block: dict[str, State]) -> dict[str, float]:
    """Return the sizes of the tensors of a mixer's state that hold numbers."""
    return {name: float(tensor.norm()) for name, tensor in block["mixer"].items() if tensor.is_floating_point()}


def _outputs(sizes: list[Tensor], name: str) -> Iterator[Finding]:
    """Find outputs, by mixer and token, that are late far above what they were early, or no numbers."""
    for index, size in enumerate(sizes):
        early, late = size[:EARLY].mean(), size[-EARLY:].mean()
        if not size.isfinite().all():
            at, found = ~size.isfinite(), "the output is no number"
        elif late > GROWTH * early.clamp_min(1e-30):
            at, found = size > GROWTH * early, f"the output is {float(late / early):.1e} times what it was early"
        else:
            continue
        place = f"layer {index}, {name}, position {int(at.nonzero()[0, 0])} of {LONG}"
        yield Finding(place=place, found=found, remedy=REMEDY)


def _states(states: list[list[dict[str, float]]], name: str) -> Iterator[Finding]:
    """Find states that grew from the first half to the second; a norm hides from the output how they grow."""
    for index, (half, whole) in enumerate(zip(*states, strict=True)):
        for key, size in whole.items():
            if not size <= STATE_GROWTH * max(half[key], 1e-30):
                found = f"it is {size:.1e} after {LONG} tokens, and {half[key]:.1e} after {LONG // 2}"
                yield Finding(place=f"layer {index}, {name}, state {key}", found=found, remedy=REMEDY)
