"""Arguments, checks and shapes of the short convolution (Yang, Kautz, Hatamizadeh: Gated Delta Networks, figure 1)."""

from typing import Literal

from torch import Tensor

from gdnbench_kernels import backends, checks


def short_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
    activation: Literal["silu"] | None = None,
    validate: bool = False,
    impl: str = "torch",
) -> tuple[Tensor, Tensor | None]:
    """Return ``y_t = activation(bias + sum_j weight_j x_{t - (W - 1) + j})`` by channel.

    Differentiable in every tensor but ``cu_seqlens``.

    Args:
        x: ``[B, T, D]``, any strides but a contiguous last dim: it may be a slice of a wider projection.
        weight: ``[D, W]``, the current input's tap last.
        bias: ``[D]``.
        initial_state: the inputs before the first token, ``[sequences, W - 1, D]``, where without ``cu_seqlens`` there
            are B sequences; None is zero.
        output_final_state: whether the last W - 1 inputs are returned.
        cu_seqlens: int32 or int64 ``[sequences + 1]``: the T tokens of a batch of 1 are sequences packed one after
            another, ``cu_seqlens[i]`` to ``cu_seqlens[i + 1]`` the ith, which may be empty.
        activation: ``silu`` or None.
        validate: check the values of ``cu_seqlens`` on a GPU too, at the price of waiting for it; on a CPU they always
            are. Neither while a CUDA graph is captured nor while `torch.compile` traces.
        impl: the backend, by name (`gdnbench_kernels.backends.names("short_convolution")`).

    Returns:
        The output ``[B, T, D]`` and the final state ``[sequences, W - 1, D]`` or None, both in the type of ``x``.

    Raises:
        ValueError: an argument does not fit; the message names it, what it got and what it wants.
        BackendUnavailable: the backend does not exist or cannot run here.
        BackendRefusal: both of these: the backend does not serve such a call; the message names those that do.
    """
    _check(x, weight, bias, initial_state, cu_seqlens, activation, validate)
    backend = backends.serving("short_convolution", "short_convolution", impl, x, weight, bias, initial_state)
    y, final = backend.short_convolution(
        x,
        weight,
        bias,
        initial_state=initial_state,
        cu_seqlens=cu_seqlens,
        silu=activation == "silu",
        output_final_state=output_final_state,
    )
    return y, final if output_final_state else None


def short_convolutions(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    sizes: tuple[int, int, int],
    activation: Literal["silu"] | None = None,
    impl: str = "torch",
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return what `short_convolution` makes of the first channels of x, in three tensors, and x's other channels.

    What a mixer reads comes out in tensors of their own, what it does not convolve of a wider projection goes along,
    and the gradient of x is written into one tensor: nothing is cut out or put together by a copy.

    Args:
        x: ``[B, T, D + R]``, any strides but a contiguous last dim.
        weight: ``[D, W]``, the current input's tap last.
        bias: ``[D]``.
        sizes: three numbers of channels that add up to D.
        activation: ``silu`` or None.
        impl: the backend, by name, as of `short_convolution`.

    Returns:
        Three outputs ``[B, T, size]``, and the last R channels ``[B, T, R]`` of x, each contiguous where the backend
        makes them at once.

    Raises:
        ValueError: an argument does not fit; the message names it, what it got and what it wants.
        BackendUnavailable: the backend does not exist or cannot run here.
        BackendRefusal: both of these: the backend does not serve such a call; the message names those that do.
    """
    convolved = x[..., : len(weight)]
    _check(convolved, weight, bias, None, None, activation, False)
    if len(sizes) != 3 or min(sizes) < 1 or sum(sizes) != len(weight):
        raise ValueError(f"sizes: {sizes}, wants three numbers above 0 of sum D = {len(weight)}")
    backend = backends.serving("short_convolution", "short_convolution", impl, convolved, weight, bias, None)
    if hasattr(backend, "short_convolutions"):
        at_once: tuple[tuple[Tensor, ...], Tensor] = backend.short_convolutions(
            x, weight, bias, sizes=sizes, silu=activation == "silu"
        )
        return at_once
    y, _ = short_convolution(convolved, weight, bias, activation=activation, impl=impl)
    return y.split(sizes, -1), x[..., len(weight) :]


def _check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    activation: str | None,
    validate: bool,
) -> None:
    if x.ndim != 3:
        raise ValueError(f"x: expected 3 dimensions [B, T, D], got {list(x.shape)}")
    batch, time, channels = x.shape
    if batch < 1 or time < 1:
        raise ValueError(f"x: expected at least one sequence of one token, got {list(x.shape)}")
    checks.shape("weight", weight, channels, None)
    if weight.shape[1] < 1:
        raise ValueError(f"weight: expected at least one tap, got {list(weight.shape)}")
    if bias is not None:
        checks.shape("bias", bias, channels)
    sequences = batch if cu_seqlens is None else checks.packed_sequences(cu_seqlens, "x", x)
    if initial_state is not None:
        checks.shape("initial_state", initial_state, sequences, weight.shape[1] - 1, channels)
    checks.same_device_and_kind(x=x, weight=weight, bias=bias, initial_state=initial_state)
    checks.same_type(x=x, weight=weight, bias=bias, initial_state=initial_state)
    checks.contiguous_rows(x=x)
    if activation not in (None, "silu"):
        raise ValueError(f"activation: {activation!r}, wants 'silu' or None")
    if cu_seqlens is not None and (x.is_cpu or validate) and checks.may_read(x):
        checks.sequence_bounds(cu_seqlens, time)
