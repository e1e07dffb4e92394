"""The short causal depthwise convolution with SiLU that stands before linear mixers."""

from collections.abc import Sequence

import torch
from gdnbench_kernels.short_convolution import short_convolution
from torch import Tensor, nn

from gdnbench.models.apart import computed_apart
from gdnbench.models.roles import Role, declare, uniform


class ShortConvolution(nn.Module):
    """``silu(sum_j w_j x_{t-size+1+j} (+ b))`` by channel; started as PyTorch's Conv1d, in ``+-size^-1/2``."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, channels: int, size: int, *, bias: bool = False):
        super().__init__()
        self.channels, self.size = channels, size
        declare(self, "weight", (channels, size), Role(row="conv", fan_out=channels, init=uniform(size**-0.5)))
        if bias:
            declare(self, "bias", (channels,), Role(row="conv", fan_out=channels, init=uniform(size**-0.5)))
        else:
            self.bias = None

    def forward(self, x: Tensor, tail: Tensor | None = None, *, impl: str) -> tuple[Tensor, Tensor | None]:
        """Convolve ``x [B, T, channels]``; see `convolve`."""
        return _convolved(x, self.weight, self.bias, tail, impl)

    def parameter_count(self) -> int:
        """``size`` weights a channel, and a bias where there is one."""
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel())

    def flops_per_token(self) -> int:
        """A multiply-add a weight."""
        return 2 * self.weight.numel()


def convolve(
    convolutions: Sequence[ShortConvolution], x: Tensor, tail: Tensor | None = None, *, impl: str
) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """Return the outputs of convolutions of one size that share the channels of ``x [B, T, their sum]``, in order.

    With the last ``size - 1`` inputs ``tail [B, size - 1, channels]``, go on from them and return the new ones, too.
    """
    sizes = [convolution.channels for convolution in convolutions]
    if computed_apart():
        tails = [None] * len(sizes) if tail is None else tail.split(sizes, -1)
        parts = [c(part, own, impl=impl) for c, part, own in zip(convolutions, x.split(sizes, -1), tails, strict=True)]
        new = None if tail is None else torch.cat([own for _, own in parts if own is not None], -1)
        return tuple(y for y, _ in parts), new
    biases = [convolution.bias for convolution in convolutions if convolution.bias is not None]
    weight = torch.cat([convolution.weight for convolution in convolutions])
    y, new = _convolved(x, weight, torch.cat(biases) if biases else None, tail, impl)
    return y.split(sizes, -1), new


def empty_tail(convolutions: Sequence[ShortConvolution], batch_size: int) -> Tensor:
    """Return the inputs before the first token: zeros ``[B, size - 1, channels of all]``."""
    weight = convolutions[0].weight
    channels = sum(convolution.channels for convolution in convolutions)
    return weight.new_zeros(batch_size, convolutions[0].size - 1, channels)


def _convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, tail: Tensor | None, impl: str
) -> tuple[Tensor, Tensor | None]:
    return short_convolution(
        x,
        weight,
        bias,
        initial_state=tail,
        output_final_state=tail is not None,
        activation="silu",
        impl=impl,
    )
