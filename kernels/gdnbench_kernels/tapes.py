"""Tapes: what a pass did, for other tensors of the same metadata (`replay` says what for). They hold no tensors.

Values are numbered: the arguments of the pass, then one for each step but launches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from triton.runtime import driver

from gdnbench_kernels.launchers import Encode, Prepared

Results = Tensor | tuple[Tensor, ...]


class Step(Protocol):
    """One thing that a pass does."""

    def __call__(self, values: list[Any], addresses: list[int], stream: int) -> None:
        """Do it with these values and their addresses, and append to both what it makes."""


@dataclass(frozen=True, slots=True)
class Tape:
    """The steps of a pass, and which values it returns, in a tuple or one alone."""

    steps: list[Step]
    results: list[int] | int

    def play(self, arguments: Sequence[Any], addresses: Sequence[int]) -> Results:
        """Make the pass with these arguments, which begin at ``addresses`` (0 for what is no tensor)."""
        values, places = [*arguments], [*addresses]
        active = driver.active
        stream = active.get_current_stream(active.get_current_device())
        for step in self.steps:
            step(values, places, stream)
        results = self.results
        return values[results] if isinstance(results, int) else tuple([values[i] for i in results])


@dataclass(frozen=True, slots=True)
class Make:
    """A tensor of certain metadata."""

    make: Callable[[], Tensor]

    def __call__(self, values: list[Any], addresses: list[int], stream: int) -> None:
        """Make it."""
        made = self.make()
        values.append(made)
        addresses.append(made.data_ptr())


@dataclass(frozen=True, slots=True)
class Call:
    """A function of PyTorch, and which of its arguments (by place) are which values."""

    function: Any
    arguments: list[Any]
    named: dict[str, Any]
    values: list[tuple[int, int]]

    def __call__(self, values: list[Any], addresses: list[int], stream: int) -> None:
        """Call it."""
        arguments = self.arguments.copy()
        for place, value in self.values:
            arguments[place] = values[value]
        made = self.function(*arguments, **self.named)
        values.append(made)
        addresses.append(made.data_ptr())


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch, and which values its addresses are of, how many bytes further: pointers, then descriptors."""

    prepared: Prepared
    pointers: list[tuple[int, int, int]]
    descriptors: list[tuple[int, Encode, int, int]]

    def __call__(self, values: list[Any], addresses: list[int], stream: int) -> None:
        """Launch it."""
        prepared = self.prepared
        arguments = prepared.arguments.copy()
        if prepared.stream is not None:
            arguments[prepared.stream] = stream
        for place, value, offset in self.pointers:
            arguments[place] = addresses[value] + offset
        for place, encode, value, offset in self.descriptors:
            arguments[place] = encode(addresses[value] + offset)
        prepared.call(*arguments)
