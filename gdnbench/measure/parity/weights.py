"""Which parameters of a peer are which of ours: every one of both exactly once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gdnbench.errors import GdnbenchError
from gdnbench.measure.parity.peer import Names


@dataclass(frozen=True)
class Pair:
    """One parameter of theirs, and those of ours that it holds, one after another along the first dimension."""

    theirs: str
    ours: tuple[str, ...]


def pair(names: Names, theirs: nn.Module, ours: nn.Module, layers: int) -> list[Pair]:
    """Return the pairs that ``names`` states (see `gdnbench.measure.parity.peer.Peer.weights`).

    Raises:
        GdnbenchError: a parameter of either model is in no pair or in two, or the numbers of a pair do not fit.
    """
    left = {name: parameter.shape for name, parameter in theirs.named_parameters()}
    right = {name: parameter.shape for name, parameter in ours.named_parameters()}
    pairs = []
    for found in _expanded(names, layers):
        if found.theirs not in left and not any(name in right for name in found.ours):
            continue
        _check(found, left, right)
        pairs.append(found)
    _check_once("theirs", [found.theirs for found in pairs], left)
    _check_once("ours", [name for found in pairs for name in found.ours], right)
    return pairs


def cut(x: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Return a tensor of theirs as tensors of ours."""
    rows = [shape[0] for shape in shapes]
    return [part.reshape(shape) for part, shape in zip(x.reshape(sum(rows), -1).split(rows), shapes)]


@torch.no_grad()
def copy(pairs: Sequence[Pair], theirs: nn.Module, ours: nn.Module) -> None:
    """Give ours the weights of theirs."""
    source, target = dict(theirs.named_parameters()), dict(ours.named_parameters())
    for found in pairs:
        parameters = [target[name] for name in found.ours]
        for parameter, part in zip(parameters, cut(source[found.theirs], [p.shape for p in parameters])):
            parameter.copy_(part)


def gradients(pairs: Sequence[Pair], theirs: nn.Module, ours: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the name, our gradient and theirs of every parameter of ours; one that is missing counts as zeros."""
    source, target = dict(theirs.named_parameters()), dict(ours.named_parameters())
    for found in pairs:
        parameters = [target[name] for name in found.ours]
        parts = cut(_gradient(source[found.theirs]), [p.shape for p in parameters])
        yield from zip(found.ours, map(_gradient, parameters), parts)


def _expanded(names: Names, layers: int) -> Iterator[Pair]:
    for theirs, ours in names.items():
        several = (ours,) if isinstance(ours, str) else ours
        for layer in map(str, range(layers)) if "*" in theirs else ("",):
            yield Pair(theirs.replace("*", layer), tuple(name.replace("*", layer) for name in several))


def _check(found: Pair, theirs: Mapping[str, torch.Size], ours: Mapping[str, torch.Size]) -> None:
    if found.theirs not in theirs or not all(name in ours for name in found.ours):
        absent = [f"theirs {found.theirs}"] if found.theirs not in theirs else []
        absent += [f"ours {name}" for name in found.ours if name not in ours]
        raise GdnbenchError(f"parity: {found.theirs} stands for {', '.join(found.ours)}, but there is no {absent[0]}")
    sizes = [ours[name] for name in found.ours]
    if theirs[found.theirs].numel() != sum(size.numel() for size in sizes):
        stated = ", ".join(f"{name} {list(size)}" for name, size in zip(found.ours, sizes))
        raise GdnbenchError(f"parity: theirs {found.theirs} {list(theirs[found.theirs])} does not fit ours: {stated}")


def _check_once(side: str, used: Sequence[str], known: Mapping[str, torch.Size]) -> None:
    twice = sorted({name for name in used if used.count(name) > 1})
    unused = sorted(set(known) - set(used))
    for names, what in ((twice, "more than once"), (unused, "nowhere")):
        if names:
            raise GdnbenchError(f"parity: of the parameters that are {side}, mapped {what}: {', '.join(names)}")


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
