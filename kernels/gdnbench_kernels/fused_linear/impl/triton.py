"""Our own kernels: one for few rows, whose time is that of reading the matrix; for more, tensor cores (`gpu.many`)."""

from torch import Tensor

from gdnbench_kernels.fused_linear.api import FusedLinear, Input, Output
from gdnbench_kernels.fused_linear.gpu import few, many
from gdnbench_kernels.gpu import hardware
from gdnbench_kernels.launching import on_its_device

MOST_ROWS = 2  # of the one kernel; tensor cores multiply more of them in less time
WIDTHS, WIDTH_MULTIPLE = (16, 16384), 8

why_unavailable = hardware.why_unavailable


def refuses(given: Input, weight: Tensor, wanted: Output) -> str | None:
    """Return what the kernels do not serve: float64, another device than a GPU, widths not read by 16 bytes."""
    low, high = WIDTHS
    width = weight.shape[1]
    if not low <= width <= high or width % WIDTH_MULTIPLE:
        return f"x: K is {width}, wants a multiple of {WIDTH_MULTIPLE} from {low} to {high}"
    if not weight.is_contiguous():
        return f"weight: strides {list(weight.stride())}, wants a contiguous matrix"
    for name in ("norm", "norm_bias", "mix"):
        x = getattr(given, name)
        if x is not None and not x.is_contiguous():
            return f"{name}: strides {list(x.stride())}, wants a contiguous tensor"
    return hardware.beyond_types(**given.tensors(), weight=weight)


def fused_linear(given: Input, weight: Tensor, wanted: Output) -> FusedLinear:
    """Run the kernels; see `fused_linear.api.fused_linear`."""
    run = _product if len(given.x) <= MOST_ROWS else _products
    return run(given.x, given, weight, wanted)


@on_its_device
def _product(x: Tensor, given: Input, weight: Tensor, wanted: Output) -> FusedLinear:
    return few.product(given, weight, wanted)


@on_its_device
def _products(x: Tensor, given: Input, weight: Tensor, wanted: Output) -> FusedLinear:
    return many.products(given, weight, wanted)
