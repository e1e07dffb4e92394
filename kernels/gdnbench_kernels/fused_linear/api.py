"""Arguments, checks and shapes of a matrix product with what comes before and after it, for a token of each row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from gdnbench_kernels import backends, checks
from gdnbench_kernels.precision import HALF

Activation = Literal["none", "swiglu", "relu2"]


class FusedLinear(NamedTuple):
    """What `fused_linear` returns.

    Attributes:
        y: ``[B, N]`` (with ``swiglu`` half of it); where it may be, in parts ``[S, B, N]`` in float32, whose sum it is.
        total: ``x + add``, in the type of x; x itself where nothing is added.
        normed: with ``previous`` what is to be the next one, in the weight's type ``[B, K]``; else None.
    """

    y: Tensor
    total: Tensor
    normed: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Input:
    """What is made of ``x`` before the product; see `fused_linear`. With ``group_size`` a number."""

    x: Tensor
    add: Tensor | None
    norm: Tensor | None
    norm_bias: Tensor | None
    eps: float
    group_size: int
    gate: Tensor | None
    gate_first: bool
    previous: Tensor | None
    mix: Tensor | None

    def tensors(self) -> dict[str, Tensor]:
        """Return those that are given, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def is_plain(self, dtype: torch.dtype) -> bool:
        """Return whether the product's input is x as it is."""
        return self.x.dtype == dtype and set(self.tensors()) == {"x"}


@dataclass(frozen=True, kw_only=True)
class Output:
    """What is made of the product; see `fused_linear`."""

    mix_rows: tuple[int, ...]
    activation: Activation
    scale: float
    dtype: torch.dtype
    carry: tuple[Tensor, Tensor] | None
    parts: bool


def whole(y: Tensor) -> Tensor:
    """Return the sum of parts, of what may be given in parts."""
    return y.sum(0) if y.ndim == 3 else y


@torch.no_grad()
def fused_linear(
    x: Tensor,
    weight: Tensor,
    *,
    add: Tensor | None = None,
    norm: Tensor | None = None,
    norm_bias: Tensor | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    gate: Tensor | None = None,
    gate_first: bool = False,
    previous: Tensor | None = None,
    mix: Tensor | None = None,
    mix_rows: Sequence[int] = (),
    activation: Activation = "none",
    scale: float = 1.0,
    out_dtype: torch.dtype | None = None,
    carry: tuple[Tensor, Tensor] | None = None,
    parts: bool = False,
    impl: str = "torch",
) -> FusedLinear:
    """Return ``scale * activation(u weight^T)``, where u is made of ``x`` in this order; no gradients.

    ``u = x + add``; times ``silu(gate)`` if ``gate_first``; the norm; else times ``silu(gate)``; the mix with
    ``previous``. It is rounded to the weight's type before the product, whose sums are in float32 (or wider).

    Args:
        x: ``[B, K]``, any strides but a contiguous last dim, as all rows ``[B, K]``.
        weight: ``[N, K]``.
        add: ``[B, K]``, or contiguous parts of it ``[S, B, K]``, in float32 or wider; the sum is rounded to the type
            of x.
        norm: ``[K]`` or ``[group_size]``: the weight of the RMS norm over each group of channels.
        norm_bias: of the shape of ``norm``: with it the norm is a layer norm, which takes the mean away too.
        eps: added to the mean of squares, or to the variance.
        group_size: channels that are normalized together, which divides K; all by default.
        gate: ``[B, K]``.
        gate_first: whether the gate comes before the norm.
        previous: the token before, ``[B, K]`` in the weight's type: what was then ``normed``. It is not written.
        mix: ``[M, K]``: the i-th range of rows of weight reads ``u + (previous - u) * mix[i]``.
        mix_rows: how many rows each of the M ranges has; together N.
        activation: ``swiglu`` (N = 2 H: ``silu`` of the first H channels times the others) or ``relu2``.
        scale: a number.
        out_dtype: of y; the weight's by default.
        carry: a contiguous tensor and where to copy it, of the same shape and type: such as a ``normed`` of an earlier
            call to what was ``previous`` there, which that call could not overwrite. It saves a kernel.
        parts: whether y may be in parts, for ``add`` of a next call. It saves a kernel; without an activation only.
        impl: the backend, by name (`gdnbench_kernels.backends.names("fused_linear")`).

    Raises:
        ValueError: a shape, type or device does not fit; the message names the argument.
        BackendUnavailable: the backend does not exist or cannot run here.
        BackendRefusal: both of these: the backend does not serve such a call; the message names those that do.
    """
    rows, width = _sizes(x, weight)
    given = Input(
        x=x, add=add, norm=norm, norm_bias=norm_bias, eps=float(eps), group_size=group_size or width, gate=gate,
        gate_first=gate_first, previous=previous, mix=mix,
    )  # fmt: skip
    wanted = Output(
        mix_rows=tuple(mix_rows), activation=activation, scale=float(scale), dtype=out_dtype or weight.dtype,
        carry=carry, parts=parts,
    )  # fmt: skip
    _check_input(given, weight, rows, width)
    _check_output(given, wanted, weight)
    backend = backends.serving("fused_linear", "fused_linear", impl, given, weight, wanted)
    result: FusedLinear = backend.fused_linear(given, weight, wanted)
    return result


def _sizes(x: Tensor, weight: Tensor) -> tuple[int, int]:
    if x.ndim != 2 or not x.numel():
        raise ValueError(f"x: expected shape [B, K] of at least one row and channel, got {list(x.shape)}")
    if weight.ndim != 2 or not len(weight) or weight.shape[1] != x.shape[1]:
        raise ValueError(f"weight: expected shape [N, {x.shape[1]}] of at least one row, got {list(weight.shape)}")
    return len(x), x.shape[1]


def _check_input(given: Input, weight: Tensor, rows: int, width: int) -> None:
    tensors: dict[str, Any] = given.tensors()
    checks.same_device_and_kind(**tensors, weight=weight)
    checks.same_type(**tensors, weight=weight)
    if given.add is not None and given.add.ndim == 3:
        checks.shape("add", given.add, None, rows, width)
        if not given.add.is_contiguous():
            raise ValueError(f"add: strides {list(given.add.stride())}, expected contiguous parts")
        if given.add.dtype in HALF:
            raise ValueError(f"add: {given.add.dtype}, expected parts in float32 or wider")
        del tensors["add"]
    for name in {"x", "add", "gate", "previous"} & tensors.keys():
        checks.shape(name, tensors[name], rows, width)
        checks.contiguous_rows(**{name: tensors[name]})
    checks.multiple("group_size", width, given.group_size, "group_size")
    if given.norm is not None:
        checks.shape("norm", given.norm, width if given.norm.numel() == width else given.group_size)
    if given.norm_bias is not None:
        if given.norm is None:
            raise ValueError("norm_bias: belongs to a norm, which is not given")
        checks.shape("norm_bias", given.norm_bias, *given.norm.shape)
    if (given.previous is None) != (given.mix is None):
        raise ValueError("previous: comes with mix, and mix with it")
    if given.previous is not None and given.previous.dtype != weight.dtype:
        raise ValueError(f"previous: {given.previous.dtype}, expected the weight's {weight.dtype}")


def _check_output(given: Input, wanted: Output, weight: Tensor) -> None:
    ranges = 0 if given.mix is None else len(given.mix)
    if given.mix is not None:
        checks.shape("mix", given.mix, None, weight.shape[1])
    if len(wanted.mix_rows) != ranges or (ranges and (sum(wanted.mix_rows) != len(weight) or min(wanted.mix_rows) < 1)):
        rows = len(weight) if ranges else 0
        raise ValueError(f"mix_rows: expected {ranges} numbers of rows that add up to {rows}, got {wanted.mix_rows}")
    if wanted.activation not in get_args(Activation):
        raise ValueError(f"activation: {wanted.activation!r}, expected one of {', '.join(get_args(Activation))}")
    if wanted.activation == "swiglu" and (len(weight) % 2 or ranges > 1):
        raise ValueError(f"weight: swiglu takes an even number of rows of one input, got {len(weight)} of {ranges}")
    if wanted.parts and wanted.activation != "none":
        raise ValueError(f"parts: what {wanted.activation} makes of y is no sum of parts")
    if not wanted.dtype.is_floating_point:
        raise ValueError(f"out_dtype: expected a floating point type, got {wanted.dtype}")
    if wanted.carry is not None:
        source, target = wanted.carry
        checks.shape("carry", target, *source.shape)
        if source.dtype != target.dtype or not (source.is_contiguous() and target.is_contiguous()):
            raise ValueError("carry: expected two contiguous tensors of one type")
