"""The kernel of one token of RWKV-7's time mixing on the CPU, against the definition in float64."""

import pytest
import torch
from gdnbench_kernels.wkv7_decode import wkv7_decode

from tests.operations.test_wkv7_decode import LARGE, SIZES, differences, draw


@pytest.mark.parametrize("size", SIZES + LARGE, ids=str)
def test_equals_the_definition(size):
    arrived = torch.zeros(size[:2], dtype=torch.int32)
    assert differences(*draw(size, torch.float32), arrived=arrived) == {}
    assert not arrived.any()


def test_in_half_precision():
    assert differences(*draw(SIZES[0], torch.bfloat16, torch.float16)) == {}


def test_a_zero_key_removes_nothing():
    x, maps = draw(SIZES[0], torch.float32)
    x["inputs"][:, 32:64] = 0
    assert wkv7_decode(**x, maps=maps, eps=1e-3, impl="triton").isfinite().all()
    assert differences(x, maps) == {}
