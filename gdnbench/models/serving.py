"""A decoder's layers as generation runs them: one token a call, matrices packed, the state in place.

A layer's own form for this (`gdnbench.models.mixer.StatefulLayer.serve`) may fuse the norm before it, its products and
its recurrence; `StepByStep` serves every layer that has none, by its ``step``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gdnbench.models.norm import LayerNorm, RMSNorm, add_and_norm
from gdnbench.models.projection import Projection

if TYPE_CHECKING:
    from gdnbench.models.mixer import Shared, State, StatefulLayer


@dataclass(frozen=True, kw_only=True)
class Slots:
    """The rows that are generated at once, and what layers need to know of them.

    Attributes:
        batch_size: number of rows B.
        capacity: tokens that a row may come to hold, its prompt among them.
        lengths: int32 ``[B]`` on the device: tokens that each row has seen. Who runs the layers adds 1 after each step.
        dtype: type of packed matrices and of what layers hand on; the residual stream is float32 or wider.
        state_dtype: type of recurrent memories; caches of keys and values, and tails, are in ``dtype``.
        impl: the backend of an operation, by the operation's name.
    """

    batch_size: int
    capacity: int
    lengths: Tensor
    dtype: torch.dtype
    state_dtype: torch.dtype
    impl: Callable[[str], str]


class Serving(ABC):
    """One layer with the norm before it, over buffers that stay where they are: a step can be captured in a graph."""

    state: "State"

    @abstractmethod
    def step(self, x: Tensor, y: Tensor | None, shared: "Shared") -> tuple[Tensor, Tensor]:
        """Run one token of every row and advance the state in place, without waiting for the device.

        Args:
            x: the residual stream ``[B, D]``, in float32 or wider.
            y: what is still to be added to it ``[B, D]``, or nothing.
            shared: what earlier layers hand on within this step (`gdnbench.models.mixer.Shared`).

        Returns:
            ``x + y``, and what the layer puts out: what is then to be added.
        """

    @abstractmethod
    def load(self, rows: slice, state: "State") -> None:
        """Take over, for some rows, a state as the layer's ``forward`` returns it."""

    @abstractmethod
    def unload(self, rows: slice) -> "State":
        """Return a copy of some rows' state as the layer's ``forward`` takes it."""

    def state_bytes(self) -> int:
        """Return the bytes of all buffers of the state."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self.state.values())


class StepByStep(Serving):
    """A layer served by its own ``step``: its state, of tensors of constant shapes ``[B, ...]``, is copied in place.

    The state's types are those that the layer's ``forward`` returns: buffers are made when the first state is loaded.
    """

    def __init__(self, layer: "StatefulLayer", norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float = 1.0):
        self.layer, self.norm, self.slots, self.factor = layer, norm, slots, factor
        self.state: State = {}

    def step(self, x: Tensor, y: Tensor | None, shared: "Shared") -> tuple[Tensor, Tensor]:
        """Norm, ``step``, and the new state copied over the old one."""
        x, normed = add_and_norm(self.norm, x, y, impl=self.slots.impl("add_norm"))
        out, new = self.layer.step(normed.to(self.slots.dtype), self.state, shared)
        for name, value in new.items():
            if value.data_ptr() != self.state[name].data_ptr():
                self.state[name].copy_(value)
        return x, self.factor * out

    def load(self, rows: slice, state: "State") -> None:
        """Copy the state's tensors, by name."""
        for name, value in state.items():
            if name not in self.state:
                self.state[name] = value.new_zeros(self.slots.batch_size, *value.shape[1:])
            self.state[name][rows] = value

    def unload(self, rows: slice) -> "State":
        """Copy the buffers."""
        return {name: buffer[rows].clone() for name, buffer in self.state.items()}


@torch.no_grad()
def pack(projections: Sequence[Projection], dtype: torch.dtype) -> Tensor:
    """Return the matrices ``c W`` of projections of one input below each other, ``[sum of fan_out, fan_in]``.

    The projections become views of it, with no factor of their own, so that weights are held once.
    """
    whole = torch.cat([(p.factor * p.weight.detach()).to(dtype) for p in projections])
    for projection, part in zip(projections, whole.split([len(p.weight) for p in projections]), strict=True):
        projection.weight, projection.factor = nn.Parameter(part, requires_grad=False), 1.0
    return whole
