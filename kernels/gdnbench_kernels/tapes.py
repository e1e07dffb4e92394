"""Tapes: what a pass did, for other tensors of the same metadata (`replay` says what for). They hold no tensors.

Values are numbered: the arguments of the pass, then one for each step but launches. Kernels want only addresses, and
views they are given cost nothing: a tape knows how far into which value they begin.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from triton.runtime import driver

from gdnbench_kernels.launchers import Encode, Prepared, is_descriptor, prepare
from gdnbench_kernels.launching import Grid

Pass = Callable[..., tuple[Tensor, ...]]

_aten = torch.ops.aten
# What these return follows from its metadata.
_MAKERS = {
    _aten.empty.memory_format,
    _aten.empty_strided.default,
    _aten.empty_like.default,
    _aten.new_empty.default,
    _aten.new_empty_strided.default,
}


class Step(Protocol):
    """One thing that a pass does."""

    def __call__(self, values: list[Any], addresses: list[int], stream: int) -> None:
        """Do it with these values and their addresses, and append to both what it makes."""


@dataclass(frozen=True, slots=True)
class Tape:
    """The steps of a pass, and which values it returns."""

    steps: list[Step]
    results: list[int]

    def play(self, arguments: Sequence[Any], addresses: Sequence[int]) -> tuple[Tensor, ...]:
        """Make the pass with these arguments, which begin at ``addresses`` (0 for what is no tensor)."""
        values, places = [*arguments], [*addresses]
        active = driver.active
        stream = active.get_current_stream(active.get_current_device())
        for step in self.steps:
            step(values, places, stream)
        return tuple([values[i] for i in self.results])


@dataclass(frozen=True, slots=True)
class _Make:
    """A tensor of certain metadata."""

    make: Callable[[], Tensor]

    def __call__(self, values: list[Any], addresses: list[int], stream: int) -> None:
        made = self.make()
        values.append(made)
        addresses.append(made.data_ptr())


@dataclass(frozen=True, slots=True)
class _Call:
    """A function of PyTorch, and which of its arguments (by place) are which values."""

    function: Any
    arguments: list[Any]
    named: dict[str, Any]
    values: list[tuple[int, int]]

    def __call__(self, values: list[Any], addresses: list[int], stream: int) -> None:
        arguments = self.arguments.copy()
        for place, value in self.values:
            arguments[place] = values[value]
        made = self.function(*arguments, **self.named)
        values.append(made)
        addresses.append(made.data_ptr())


@dataclass(frozen=True, slots=True)
class _Launch:
    """A launch, and which values its addresses are of, how many bytes further: pointers, then descriptors."""

    prepared: Prepared
    pointers: list[tuple[int, int, int]]
    descriptors: list[tuple[int, Encode, int, int]]

    def __call__(self, values: list[Any], addresses: list[int], stream: int) -> None:
        prepared = self.prepared
        arguments = prepared.arguments.copy()
        if prepared.stream is not None:
            arguments[prepared.stream] = stream
        for place, value, offset in self.pointers:
            arguments[place] = addresses[value] + offset
        for place, encode, value, offset in self.descriptors:
            arguments[place] = encode(addresses[value] + offset)
        prepared.call(*arguments)


@dataclass(frozen=True, slots=True)
class Called:
    """A call of a function of PyTorch, as it was seen."""

    function: Any
    arguments: list[Any]
    named: dict[str, Any]
    result: Any

    @property
    def makes(self) -> bool:
        """Whether all that counts of it is the metadata of its result."""
        return self.function in _MAKERS

    @property
    def views(self) -> bool:
        """Whether its result is a view of its first argument: functions that may return one may also copy."""
        return self.function.is_view and _storage(self.result) == _storage(self.arguments[0])


@dataclass(frozen=True, slots=True)
class Launched:
    """A launch, as it was seen."""

    compiled: Any
    blocks: Grid
    arguments: list[Any]


class _Unwritable(Exception):
    """The pass read a value on the host, or had tensors from elsewhere or in lists."""


def written(arguments: list[Any], done: list[Called | Launched], results: tuple[Tensor, ...]) -> Tape | None:
    """Return the tape of a pass with ``arguments`` (no tensor twice) that did this; None where none can hold it."""
    writer = _Writer(arguments)
    try:
        for step in done:
            writer.write(step)
        return Tape(writer.steps, [writer.number(x) for x in results])
    except _Unwritable:
        return None


class _Writer:
    """Writes a tape: tensors are known by identity, and become values when something wants more than their address."""

    def __init__(self, arguments: list[Any]):
        self.steps: list[Step] = []
        self.count = len(arguments)
        self.numbers = {id(x): i for i, x in enumerate(arguments) if isinstance(x, Tensor)}
        self.origins: dict[int, Called] = {}

    def write(self, step: Called | Launched) -> None:
        """Write what counts of a step."""
        if isinstance(step, Launched):
            self.steps.append(self._launch(step))
        elif not isinstance(step.result, Tensor):
            raise _Unwritable
        elif id(step.result) in self.numbers.keys() | self.origins.keys():
            if step.function._schema.is_mutable:
                self._add(self._call(step))
        else:
            self.origins[id(step.result)] = step
            if not (step.makes or step.views):
                self.number(step.result)

    def number(self, x: Tensor) -> int:
        """Return which value ``x`` is; it becomes one where it is none yet."""
        if id(x) not in self.numbers:
            origin = self._origin(x)
            if origin.makes:
                self.numbers[id(x)] = self._add(_Make(_maker(x)))
            elif origin.views and _metadata(x) == _metadata(origin.arguments[0]):
                self.numbers[id(x)] = self.number(origin.arguments[0])
            else:
                self.numbers[id(x)] = self._add(self._call(origin))
        return self.numbers[id(x)]

    def place(self, x: Tensor) -> tuple[int, int]:
        """Return which value's memory ``x`` lies in, and how many bytes further it begins."""
        if id(x) in self.numbers or not self._origin(x).views:
            return self.number(x), 0
        base = self._origin(x).arguments[0]
        value, offset = self.place(base)
        return value, offset + x.storage_offset() * x.itemsize - base.storage_offset() * base.itemsize

    def _origin(self, x: Tensor) -> Called:
        if id(x) not in self.origins:
            raise _Unwritable
        return self.origins[id(x)]

    def _add(self, step: Step) -> int:
        self.steps.append(step)
        self.count += 1
        return self.count - 1

    def _call(self, step: Called) -> _Call:
        lists = [x for x in step.arguments if isinstance(x, list | tuple)]
        if any(isinstance(x, Tensor) for x in (*step.named.values(), *itertools.chain(*lists))):
            raise _Unwritable
        values = [(i, self.number(x)) for i, x in enumerate(step.arguments) if isinstance(x, Tensor)]
        arguments = [None if isinstance(x, Tensor) else x for x in step.arguments]
        return _Call(step.function, arguments, step.named, values)

    def _launch(self, step: Launched) -> _Launch:
        prepared = prepare(step.compiled, step.blocks, step.arguments)
        tensors = [x for x in step.arguments if isinstance(x, Tensor)]
        tiled = [x.base for x in step.arguments if is_descriptor(x)]
        pointers = [(place, *self.place(x)) for place, x in zip(prepared.pointers, tensors, strict=True)]
        descriptors = [(*made, *self.place(x)) for made, x in zip(prepared.descriptors, tiled, strict=True)]
        return _Launch(prepared, pointers, descriptors)


def _maker(made: Tensor) -> Callable[[], Tensor]:
    return partial(torch.empty_strided, made.shape, made.stride(), dtype=made.dtype, device=made.device)


def _metadata(x: Tensor) -> tuple[Any, ...]:
    return x.dtype, x.shape, x.stride(), x.storage_offset()


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata
