"""A layer's token in one kernel, on the CPU, against float64, and as an operator of PyTorch."""

import functools

import pytest
import torch
from gdnbench_kernels.gated_delta_decode.gpu import gated_delta_decode
from gdnbench_kernels.ssd_decode.gpu import ssd_decode

from tests.operations.test_decode_kernels import OPERATIONS, SIZES, case, draw, errors

each = pytest.mark.parametrize("operation", OPERATIONS)


@each
@pytest.mark.parametrize("of", SIZES, ids=str)
def test_equals_the_definition(operation, of):
    assert errors(operation, draw(operation, of, torch.float32)) == {}


@each
def test_half_precision(operation):
    x = draw(operation, case(2, 1, 2, 16, 16), torch.bfloat16, memory=torch.bfloat16)
    assert errors(operation, x, settled=True) == {}


def test_values_that_are_not_convolved():
    assert errors("gated_delta_decode", draw("gated_delta_decode", SIZES[1], torch.float32, values=False)) == {}


@each
def test_slices_of_one_projection_and_taps_side_by_side(operation):
    x = draw(operation, case(2, 2, 1, 16, 16), torch.float32)
    raw = [name for name in ("x", "g", "beta", "dt") if name in x]
    row = torch.cat([x[name] for name in raw] + [torch.full((2, 5), torch.nan)], 1)
    parts = row.split([x[name].shape[1] for name in raw] + [5], 1)
    sliced = x | dict(zip(raw, parts)) | {"weight": x["weight"].t().contiguous().t()}
    assert errors(operation, sliced) == {}


def test_are_proper_operators():
    # Without gradients and views there is nothing for the other checks, which take seconds.
    check = functools.partial(torch.library.opcheck, test_utils=("test_schema", "test_faketensor"))
    of = case(2, 1, 2, 16, 16)
    x = draw("gated_delta_decode", of, torch.float32)
    names = ["x", "g", "beta", "weight", "ring", "memory", "lengths", "A_log", "dt_bias"]
    check(gated_delta_decode.traced, (*(x[name] for name in names), 0.5, 0.7, 1.0, False))
    x = draw("ssd_decode", of, torch.float32)
    names = ["x", "dt", "weight", "bias", "ring", "memory", "lengths", "A_log", "dt_bias", "D"]
    check(ssd_decode.traced, (*(x[name] for name in names), False))
