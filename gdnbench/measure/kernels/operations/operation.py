"""What the bench knows of an operation: inputs, the call that is timed, the float64 definition, and the least work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gdnbench.measure.kernels.case import Direction, KernelCase, Shape
from gdnbench.measure.kernels.floors import Work

Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation that can be timed.

    Attributes:
        inputs: case, seed -> tensors by name, drawn on the case's device.
        outputs: case, tensors -> what the backend returns; tensors of shape ``[B, T, ...]`` (a decode step has no T).
        exact: case, float64 tensors -> the same by the definition or a chunked form in float64.
        work: shape, bytes of an element, direction -> the least work.
        gradients: inputs whose gradients the backward pass gives; none for an operation that has none.
        tokens: inputs of shape ``[B, T, ...]``; the others are shared by all sequences.
        like: the input whose shape and type the output has; None for an output that is a number.
        check_tokens: how many tokens of a sequence are compared with float64, for memory's sake.
        updates: inputs that the call overwrites.
        why_unavailable: backend -> why it cannot run here, or None.
        what_ran: backend -> what it says that it ran, or None.
        foreign: whether the backends are libraries of others, whose every error is a refusal with its reason.
    """

    inputs: Callable[[KernelCase, int], Tensors]
    outputs: Callable[[KernelCase, Tensors], tuple[Tensor, ...]]
    exact: Callable[[KernelCase, Tensors], tuple[Tensor, ...]]
    work: Callable[[Shape, int, Direction], tuple[Work, ...]]
    gradients: tuple[str, ...]
    tokens: tuple[str, ...]
    like: str | None
    why_unavailable: Callable[[str], str | None]
    check_tokens: int | None = None
    updates: tuple[str, ...] = ()
    what_ran: Callable[[str], Any] = lambda impl: None
    foreign: bool = False

    def cotangent(self, tensors: Mapping[str, Tensor], rng: torch.Generator) -> Tensor:
        """Return random numbers in the shape and type of the output."""
        shaped = torch.empty((), device=rng.device) if self.like is None else torch.empty_like(tensors[self.like])
        return shaped.normal_(generator=rng)

    def wanted(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Return the names of the inputs that get a gradient in this call."""
        return [name for name in self.gradients if name in tensors]
