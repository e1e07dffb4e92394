"""A matrix without bias that knows its role, and several of them on one input."""

import torch
from gdnbench_kernels.precision import HALF
from torch import Tensor, nn
from torch.nn import functional as F

from gdnbench.models.apart import computed_apart
from gdnbench.models.products import products
from gdnbench.models.roles import Init, Role, declare

# Rows of half precision whose size is a multiple of 32 bytes suit tensor cores, and kernels that read 16 bytes at once.
ALIGNED = 16


class Projection(nn.Module):
    """``y = c W x`` with ``W [fan_out, fan_in]``; the forward factor ``c`` is the parametrization's, 1 by default."""

    weight: nn.Parameter

    def __init__(self, fan_in: int, fan_out: int, *, init: Init, row: str = "hidden"):
        super().__init__()
        self.factor = 1.0
        declare(self, "weight", (fan_out, fan_in), Role(row=row, fan_in=fan_in, fan_out=fan_out, init=init))

    def matrix(self) -> Tensor:
        """Return ``c W``."""
        return self.weight if self.factor == 1.0 else self.factor * self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., fan_in]`` to ``[..., fan_out]``."""
        return F.linear(x, self.matrix())


def project(x: Tensor, *groups: Projection | tuple[Projection, ...]) -> tuple[Tensor, ...]:
    """Return what projections make of ``x [..., fan_in]``: one tensor for each argument.

    What a tuple of projections makes lies side by side in its tensor, ``[..., sum of their fan_out]``, made by one
    product; in half precision with zeros behind it, up to rows that tensor cores read.
    """
    members = [group if isinstance(group, tuple) else (group,) for group in groups]
    if computed_apart():
        return tuple(torch.cat([projection(x) for projection in group], -1) for group in members)
    half = x.dtype in HALF or torch.is_autocast_enabled(x.device.type)
    matrices = [_side_by_side(group, ALIGNED if half else 1) for group in members]
    if not torch.is_grad_enabled():
        return tuple(F.linear(x, matrix) for matrix in matrices)
    return products(x, matrices)


def _side_by_side(group: tuple[Projection, ...], multiple: int) -> Tensor:
    """Return the matrices of a group as one, with rows of zeros up to a multiple."""
    if len(group) == 1:
        return group[0].matrix()
    matrices = [projection.matrix() for projection in group]
    padding = -sum(map(len, matrices)) % multiple
    zeros = [matrices[0].new_zeros(padding, matrices[0].shape[1])] if padding else []
    return torch.cat([*matrices, *zeros])
