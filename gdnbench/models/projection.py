"""A matrix without bias that knows its role."""

from torch import Tensor, nn
from torch.nn import functional as F

from gdnbench.models.roles import Init, Role, declare


class Projection(nn.Module):
    """``y = c W x`` with ``W [fan_out, fan_in]``; the forward factor ``c`` is the parametrization's, 1 by default."""

    weight: nn.Parameter

    def __init__(self, fan_in: int, fan_out: int, *, init: Init, row: str = "hidden"):
        super().__init__()
        self.factor = 1.0
        declare(self, "weight", (fan_out, fan_in), Role(row=row, fan_in=fan_in, fan_out=fan_out, init=init))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., fan_in]`` to ``[..., fan_out]``."""
        y = F.linear(x, self.weight)
        return y if self.factor == 1.0 else y * self.factor
