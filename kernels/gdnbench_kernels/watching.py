"""Watching a pass, and writing its tape.

Tensors are known by identity, and become values of the tape when something wants more of them than their address:
kernels do not, so that views they are given cost nothing.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gdnbench_kernels.launchers import is_descriptor, prepare
from gdnbench_kernels.launching import Grid, told
from gdnbench_kernels.tapes import Call, Launch, Make, Results, Step, Tape

Pass = Callable[..., Results]

_aten = torch.ops.aten
# What these return follows from its metadata.
_MAKERS = {
    _aten.empty.memory_format,
    _aten.empty_strided.default,
    _aten.empty_like.default,
    _aten.new_empty.default,
    _aten.new_empty_strided.default,
}


def watch(function: Pass, arguments: tuple[Any, ...]) -> tuple[Results, Tape | None]:
    """Run a pass; return its results and its tape, if one holds what it did."""
    # Each a tensor of its own, though a caller may have given one twice: they are told apart by identity.
    own = [x.detach() if isinstance(x, Tensor) else x for x in arguments]
    watcher = _Watcher()
    # Above autograd, views would not be the very tensors that are seen here.
    with torch._C._AutoDispatchBelowAutograd(), watcher, told(watcher.launched):
        results = function(*own)
    return results, _written(own, watcher.done, results)


class _Watcher(TorchDispatchMode):
    """Notes what a pass does."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[_Called | _Launched] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.done.append(_Called(func, list(args), kwargs or {}, result))
        return result

    def launched(self, compiled: Any, blocks: Grid, arguments: tuple[Any, ...]) -> None:
        """Note a launch."""
        self.done.append(_Launched(compiled, blocks, list(arguments)))


@dataclass(frozen=True, slots=True)
class _Called:
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
class _Launched:
    """A launch, as it was seen."""

    compiled: Any
    blocks: Grid
    arguments: list[Any]


class _Unwritable(Exception):
    """The pass read a value on the host, or had tensors from elsewhere or in lists."""


def _written(arguments: list[Any], done: list[_Called | _Launched], results: Results) -> Tape | None:
    """Return the tape of a pass with ``arguments`` (no tensor twice) that did this; None where none can hold it."""
    writer = _Writer(arguments)
    try:
        for step in done:
            writer.write(step)
        returned = writer.number(results) if isinstance(results, Tensor) else [writer.number(x) for x in results]
        return Tape(writer.steps, returned)
    except _Unwritable:
        return None


class _Writer:
    """Writes a tape."""

    def __init__(self, arguments: list[Any]):
        self.steps: list[Step] = []
        self.count = len(arguments)
        self.numbers = {id(x): i for i, x in enumerate(arguments) if isinstance(x, Tensor)}
        self.origins: dict[int, _Called] = {}

    def write(self, step: _Called | _Launched) -> None:
        """Write what counts of a step."""
        if isinstance(step, _Launched):
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
                self.numbers[id(x)] = self._add(Make(_maker(x)))
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

    def _origin(self, x: Tensor) -> _Called:
        if id(x) not in self.origins:
            raise _Unwritable
        return self.origins[id(x)]

    def _add(self, step: Step) -> int:
        self.steps.append(step)
        self.count += 1
        return self.count - 1

    def _call(self, step: _Called) -> Call:
        lists = [x for x in step.arguments if isinstance(x, list | tuple)]
        if any(isinstance(x, Tensor) for x in (*step.named.values(), *itertools.chain(*lists))):
            raise _Unwritable
        values = [(i, self.number(x)) for i, x in enumerate(step.arguments) if isinstance(x, Tensor)]
        arguments = [None if isinstance(x, Tensor) else x for x in step.arguments]
        return Call(step.function, arguments, step.named, values)

    def _launch(self, step: _Launched) -> Launch:
        prepared = prepare(step.compiled, step.blocks, step.arguments)
        tensors = [x for x in step.arguments if isinstance(x, Tensor)]
        tiled = [x.base for x in step.arguments if is_descriptor(x)]
        pointers = [(place, *self.place(x)) for place, x in zip(prepared.pointers, tensors, strict=True)]
        descriptors = [(*made, *self.place(x)) for made, x in zip(prepared.descriptors, tiled, strict=True)]
        return Launch(prepared, pointers, descriptors)


def _maker(made: Tensor) -> Callable[[], Tensor]:
    return partial(torch.empty_strided, made.shape, made.stride(), dtype=made.dtype, device=made.device)


def _metadata(x: Tensor) -> tuple[Any, ...]:
    return x.dtype, x.shape, x.stride(), x.storage_offset()


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata
