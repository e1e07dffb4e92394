"""The short causal depthwise convolution with SiLU that stands before linear mixers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdnbench.models.roles import Role, declare, uniform


class ShortConvolution(nn.Module):
    """``silu(sum_j w_j x_{t-size+1+j} (+ b))`` by channel; started as PyTorch's Conv1d, in ``+-size^-1/2``."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, channels: int, size: int, *, bias: bool = False):
        super().__init__()
        self.size = size
        declare(self, "weight", (channels, size), Role(row="conv", fan_out=channels, init=uniform(size**-0.5)))
        if bias:
            declare(self, "bias", (channels,), Role(row="conv", fan_out=channels, init=uniform(size**-0.5)))
        else:
            self.bias = None

    def init_tail(self, batch_size: int) -> Tensor:
        """Return the inputs before the first token: zeros ``[B, size - 1, channels]``."""
        return self.weight.new_zeros(batch_size, self.size - 1, self.weight.shape[0])

    def forward(self, x: Tensor, tail: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Convolve ``x [B, T, channels]`` after the last ``size - 1`` inputs; return the output and the new tail."""
        length = x.shape[1]
        x = torch.cat([self.init_tail(x.shape[0]) if tail is None else tail, x], 1)
        y = sum(x[:, j : j + length] * self.weight[:, j] for j in range(self.size))
        assert isinstance(y, Tensor)
        return F.silu(y if self.bias is None else y + self.bias), x[:, length:]

    def parameter_count(self) -> int:
        """``size`` weights a channel, and a bias where there is one."""
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel())

    def flops_per_token(self) -> int:
        """A multiply-add a weight."""
        return 2 * self.weight.numel()
