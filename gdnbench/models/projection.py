"""A matrix without bias that knows its role, and several of them on one input as one product."""

import torch
from gdnbench_kernels.precision import HALF
from torch import Tensor, nn
from torch.nn import functional as F

from gdnbench.models.apart import computed_apart
from gdnbench.models.roles import Init, Role, declare

# Tensor cores read rows of half precision whose size is a multiple of 16 bytes.
ALIGNED = 8


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


def project(x: Tensor, *projections: Projection) -> Tensor:
    """Return what the projections make of ``x [..., fan_in]``, side by side: ``[..., sum of their fan_out]``.

    It is one product with their matrices in one, so that x is read once.
    """
    if computed_apart():
        return torch.cat([projection(x) for projection in projections], -1)
    return F.linear(x, torch.cat([projection.matrix() for projection in projections]))


def project_each(x: Tensor, *projections: Projection) -> tuple[Tensor, ...]:
    """Return what each of the projections makes of ``x [..., fan_in]``, by one product as `project`.

    In half precision the product is padded to rows that tensor cores read.
    """
    if computed_apart():
        return tuple(projection(x) for projection in projections)
    matrices = [projection.matrix() for projection in projections]
    half = x.dtype in HALF or torch.is_autocast_enabled(x.device.type)
    padding = -sum(map(len, matrices)) % ALIGNED if half else 0
    if padding:
        matrices.append(matrices[0].new_zeros(padding, x.shape[-1]))
    parts = F.linear(x, torch.cat(matrices)).split([len(matrix) for matrix in matrices], -1)
    return parts[: len(projections)]
