"""A decoder's layers as generation runs them: one token a call, matrices packed, the state in place.

A layer's own form for this (`gdnbench.models.mixer.StatefulLayer.serve`) may fuse the norm before it, its products and
its recurrence; `served` serves every layer that has none, by its ``step``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from gdnbench_kernels.precision import HALF
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
    """One layer with the norm before it, over buffers that stay where they are: a step can be captured in a graph.

    Class attributes:
        captured: whether `step` can be; where it cannot, it runs on any device, but waits for it.
        takes_parts: whether `step` takes y in parts, too: one that hands it to `fused_linear` does.
    """

    captured: ClassVar[bool] = True
    takes_parts: ClassVar[bool] = False
    state: "State"

    @abstractmethod
    def step(self, x: Tensor, y: Tensor | None, shared: "Shared") -> tuple[Tensor, Tensor]:
        """Run one token of every row and advance the state in place, without waiting for the device.

        Args:
            x: the residual stream ``[B, D]``, in float32 or wider.
            y: what is still to be added to it ``[B, D]``, or nothing; with ``takes_parts`` maybe parts ``[S, B, D]``.
            shared: what earlier layers hand on within this step (`gdnbench.models.mixer.Shared`).

        Returns:
            ``x + y``, and what the layer puts out: what is then to be added.
        """

    @abstractmethod
    def load(self, rows: slice, state: "State") -> None:
        """Take over, for some rows, a state that ``forward`` returned; their ``Slots.lengths`` are already those."""

    @abstractmethod
    def unload(self, rows: slice) -> "State":
        """Return a copy of some rows' state as the layer's ``forward`` takes it; the rows are of one length."""

    def begin(self, rows: slice) -> "State | None":
        """Return the state before the first token of some rows that ``forward`` may write in place; None: a new one.

        A cache that is as long as the rows may become is filled by the prompt where it lies, and never held twice.
        """
        return None

    def state_bytes(self) -> int:
        """Return the bytes of all buffers of the state."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self.state.values())


def precision(kind: str, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return the context of layers whose matrices are in ``dtype`` on devices of a kind: autocast in half precision."""
    return torch.autocast(kind, dtype=dtype, cache_enabled=False) if dtype in HALF else nullcontext()


class StepByStep(Serving):
    """A layer served by its own ``step``: its state, of tensors of constant shapes ``[B, ...]``, is copied in place."""

    def __init__(self, layer: "StatefulLayer", norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float = 1.0):
        self.layer, self.norm, self.slots, self.factor = layer, norm, slots, factor
        self.wide = torch.promote_types(slots.dtype, torch.float32)
        empty = layer.init_state(slots.batch_size)
        self.state: State = {name: value.to(self._type(name)) for name, value in empty.items()}

    def _type(self, name: str) -> torch.dtype:
        return self.slots.state_dtype if name == "memory" else self.slots.dtype

    def step(self, x: Tensor, y: Tensor | None, shared: "Shared") -> tuple[Tensor, Tensor]:
        """Norm, ``step``, and the new state copied over the old one."""
        x, normed = add_and_norm(self.norm, x, y, impl=self.slots.impl("add_norm"))
        with precision(x.device.type, self.slots.dtype):
            out, new = self.layer.step(normed.to(self.slots.dtype), self._read(slice(None)), shared)
        for name, value in new.items():
            if value.data_ptr() != self.state[name].data_ptr():
                self.state[name].copy_(value)
        return x, self.factor * out

    def load(self, rows: slice, state: "State") -> None:
        """Copy the state's tensors, by name."""
        for name, value in state.items():
            self.state[name][rows] = value

    def unload(self, rows: slice) -> "State":
        """Copy the buffers."""
        return {name: value.clone() for name, value in self._read(rows).items()}

    def _read(self, rows: slice) -> "State":
        """Return the state as the layer takes it: memories in float32 or wider."""
        return {n: buffer[rows].to(self.wide) if n == "memory" else buffer[rows] for n, buffer in self.state.items()}


class RowByRow(Serving):
    """A layer whose state grows, served by its ``step`` for one row after the other, each at its own length.

    It is slow, and no graph can hold it; a layer with such a state should have a form of its own.
    """

    captured = False

    def __init__(self, layer: "StatefulLayer", norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float = 1.0):
        self.layer, self.norm, self.slots, self.factor = layer, norm, slots, factor
        self.rows = [layer.init_state(1) for _ in range(slots.batch_size)]

    @property
    def state(self) -> "State":  # type: ignore[override]
        """All rows' tensors."""
        return {f"{row}.{name}": value for row, state in enumerate(self.rows) for name, value in state.items()}

    def step(self, x: Tensor, y: Tensor | None, shared: "Shared") -> tuple[Tensor, Tensor]:
        """Norm, then ``step`` by row."""
        x, normed = add_and_norm(self.norm, x, y, impl=self.slots.impl("add_norm"))
        outs, found = [], []
        with precision(x.device.type, self.slots.dtype):
            for row, one in enumerate(normed.to(self.slots.dtype).split(1)):
                own = {name: value[row : row + 1] for name, value in shared.items()}
                out, self.rows[row] = self.layer.step(one, self.rows[row], own)
                outs.append(out)
                found.append(own)
        shared |= {name: torch.cat([own[name] for own in found]) for name in found[0] if name not in shared}
        return x, self.factor * torch.cat(outs)

    def load(self, rows: slice, state: "State") -> None:
        """Split the state by row; what is no tensor ``[B, ...]`` is every row's."""
        for place, row in enumerate(range(*rows.indices(len(self.rows)))):
            self.rows[row] = {n: (v[place : place + 1] if v.ndim else v).clone() for n, v in state.items()}

    def unload(self, rows: slice) -> "State":
        """Put rows together."""
        first, *_ = chosen = self.rows[rows]
        return {n: torch.cat([row[n] for row in chosen]) if v.ndim else v.clone() for n, v in first.items()}


def served(layer: "StatefulLayer", norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float = 1.0) -> Serving:
    """Return the form that serves any layer by its ``step``."""
    return (RowByRow if grows(layer) else StepByStep)(layer, norm, slots, factor=factor)


def keeps(layer: "StatefulLayer", kind: type, *methods: str) -> bool:
    """Say whether a layer of some subclass of ``kind`` computes by that one's methods: its ``serve`` then fits, too."""
    return all(getattr(type(layer), name) is getattr(kind, name) for name in ("forward", "step", *methods))


def grows(layer: "StatefulLayer") -> bool:
    """Say whether a layer's state grows with its context."""
    return layer.state_bytes(2, 1) > layer.state_bytes(1, 1)


@torch.no_grad()
def pack(projections: Sequence[Projection], dtype: torch.dtype, *, multiple: int = 1) -> Tensor:
    """Return the matrices ``c W`` of projections of one input below each other, ``[sum of fan_out, fan_in]``.

    The projections become views of it, with no factor of their own, so that weights are held once. Zeros follow up to
    a multiple of rows: rows of what they make together then begin where kernels read many bytes at once.
    """
    matrices = [(p.factor * p.weight.detach()).to(dtype) for p in projections]
    padding = -sum(map(len, matrices)) % multiple
    whole = torch.cat([*matrices, matrices[0].new_zeros(padding, matrices[0].shape[1])])
    for projection, part in zip(projections, whole.split([*map(len, matrices), padding]), strict=False):
        projection.weight, projection.factor = nn.Parameter(part, requires_grad=False), 1.0
    return whole
