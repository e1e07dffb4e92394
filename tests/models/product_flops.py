"""What the package's own products count as under `torch.utils.flop_counter.FlopCounterMode`: import to register.

Not beside the operator: the counter's module imports triton, which models do without.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

import gdnbench.models.products  # noqa: F401 (defines the operators)


@register_flop_formula(torch.ops.gdnbench.products)
def _flops(x: tuple[int, int], matrices: Sequence[tuple[int, int]], **settings: Any) -> int:
    return sum(2 * x[0] * rows * columns for rows, columns in matrices)


@register_flop_formula(torch.ops.gdnbench.products_backward)
def _backward_flops(
    x: tuple[int, int], matrices: Sequence[tuple[int, int]], gradients: Sequence[tuple[int, int]], **settings: Any
) -> int:
    return 2 * _flops(x, matrices)
