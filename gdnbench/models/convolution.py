"""The short causal depthwise convolution with SiLU that stands before linear mixers."""

from collections.abc import Sequence

import torch
from gdnbench_kernels.short_convolution import short_convolution, short_convolutions
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
        """Convolve ``x [B, T, channels]`` after a tail; return the new tail, too, where one was given."""
        return _convolved(x, self.weight, self.bias, tail, impl)

    def parameter_count(self) -> int:
        """``size`` weights a channel, and a bias where there is one."""
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel())

    def flops_per_token(self) -> int:
        """A multiply-add a weight."""
        return 2 * self.weight.numel()


def convolve(
    convolutions: Sequence[ShortConvolution], x: Tensor, tail: Tensor | None = None, *, impl: str
) -> tuple[tuple[Tensor, ...], Tensor, Tensor | None]:
    """Return the outputs of convolutions of one size that share the first channels of ``x``, and its other channels.

    Args:
        convolutions: those of the channels, in order.
        x: ``[B, T, their channels + R]``.
        tail: the last ``size - 1`` inputs ``[B, size - 1, their channels]``: go on from them.
        impl: the backend.

    Returns:
        The outputs ``[B, T, channels]``, the other channels ``[B, T, R]``, and the new tail where one was given.
    """
    sizes = [convolution.channels for convolution in convolutions]
    convolved, rest = x[..., : sum(sizes)], x[..., sum(sizes) :]
    if computed_apart():
        tails = [None] * len(sizes) if tail is None else tail.split(sizes, -1)
        parts = convolved.split(sizes, -1)
        found = [c(part, own, impl=impl) for c, part, own in zip(convolutions, parts, tails, strict=True)]
        new = None if tail is None else torch.cat([own for _, own in found if own is not None], -1)
        return tuple(y for y, _ in found), rest, new
    weight = torch.cat([convolution.weight for convolution in convolutions])
    biases = [convolution.bias for convolution in convolutions if convolution.bias is not None]
    bias = torch.cat([*biases]) if biases else None
    if tail is None and len(sizes) == 3:
        first, second, third = sizes
        outputs, rest = short_convolutions(x, weight, bias, sizes=(first, second, third), activation="silu", impl=impl)
        return outputs, rest, None
    y, tail = _convolved(convolved, weight, bias, tail, impl)
    return y.split(sizes, -1), rest, tail


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
