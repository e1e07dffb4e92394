"""A role says what a parameter is: the row of the parametrization table that rules it, and its fans."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gdnbench.errors import GdnbenchError


@dataclass(frozen=True, kw_only=True)
class Init:
    """How a parameter starts, at the base width.

    ``sample`` fills a float32 tensor of the given shape from a generator; ``scales`` says whether the table's
    init factor applies (random matrices) or not (ones, zeros and curves, which are the same at every width).
    """

    sample: Callable[[tuple[int, ...], torch.Generator], Tensor]
    scales: bool = False
    std: float | None = None


def normal(std: float) -> Init:
    """Draw from a normal distribution of mean 0."""
    return Init(sample=lambda shape, rng: torch.randn(shape, generator=rng) * std, scales=True, std=std)


def uniform(bound: float) -> Init:
    """Draw from the uniform distribution over ``[-bound, bound]``."""
    return Init(
        sample=lambda shape, rng: (2 * torch.rand(shape, generator=rng) - 1) * bound,
        scales=True,
        std=bound / math.sqrt(3),
    )


def constant(value: float) -> Init:
    """Fill with one value."""
    return Init(sample=lambda shape, rng: torch.full(shape, value), std=None)


def curve(values: Callable[[], Tensor]) -> Init:
    """Take the given values, the same for every seed."""
    return Init(sample=lambda shape, rng: values().reshape(shape))


@dataclass(frozen=True, kw_only=True)
class Role:
    """The table row of a parameter or multiplier, its fans (1 where a dimension is not a sum), and its start."""

    row: str
    fan_in: int = 1
    fan_out: int = 1
    init: Init | None = None


def declare(module: nn.Module, name: str, shape: tuple[int, ...], role: Role) -> nn.Parameter:
    """Create the parameter ``name`` of ``module`` with its role, and return it."""
    parameter = nn.Parameter(torch.zeros(shape))
    module.register_parameter(name, parameter)
    vars(module).setdefault("roles", {})[name] = role
    return parameter


class Multiplier(nn.Module):
    """A constant factor on an activation: ``base(fan_in at the base width)`` times the table's ``forward`` cell.

    It has no parameter. ``value`` is set when a parametrization is applied, and is 1 until then.
    """

    def __init__(self, row: str, *, fan_in: int, fan_out: int = 1, base: Callable[[int], float] = lambda fan: 1.0):
        super().__init__()
        self.role = Role(row=row, fan_in=fan_in, fan_out=fan_out)
        self.base = base
        self.value = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Return ``value * x``."""
        return x if self.value == 1.0 else x * self.value


def parameters_with_roles(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, Role]]:
    """Yield (full name, owning module, local name, role) of every parameter; raise for one without a role."""
    for prefix, module in model.named_modules():
        roles = getattr(module, "roles", {})
        for local, _ in module.named_parameters(recurse=False):
            name = f"{prefix}.{local}" if prefix else local
            if local not in roles:
                raise GdnbenchError(
                    f"parameter {name} has no role; create it with gdnbench.models.roles.declare or a Projection"
                )
            yield name, module, local, roles[local]


def multipliers(model: nn.Module) -> Iterator[tuple[str, Multiplier]]:
    """Yield (name, module) of every `Multiplier`."""
    for name, module in model.named_modules():
        if isinstance(module, Multiplier):
            yield name, module
