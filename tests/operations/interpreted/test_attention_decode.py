"""The kernel of one token of attention on the CPU, against the definition in float64."""

import pytest
import torch
from gdnbench_kernels.attention_decode import attention_decode, gpu

from tests.operations.test_attention_decode import OPTIONS, SIZES, differences, draw


@pytest.mark.parametrize(
    ("size", "lengths", "options"),
    [*((*size, {}) for size in SIZES), *((*SIZES[1], options) for options in OPTIONS[1:]), (*SIZES[3], OPTIONS[2])],
    ids=str,
)
def test_equals_the_definition(size, lengths, options):
    assert differences(draw(size, lengths, torch.float32, **options), impl="triton", heads=size[1]) == {}


@pytest.mark.parametrize("parts", [3, 16])
@pytest.mark.parametrize("heads", [2, 4])
def test_any_number_of_parts(parts, heads, monkeypatch):
    """Also more than there are blocks, and more than are put together at once."""
    monkeypatch.setattr(gpu, "cut", lambda *a: gpu.Cut(parts, 16, 4, 1))
    monkeypatch.setattr(gpu, "WARP_COMBINED", 16)
    for lengths in ([0, 17], [95, 64]):
        x = draw((2, heads, 2, 16, 96), lengths, torch.float32)
        arrived = torch.zeros(2, 2, dtype=torch.int32)
        assert differences(x, impl="triton", heads=heads, arrived=arrived) == {}
        assert not arrived.any()


def test_in_half_precision():
    x = draw((2, 4, 2, 16, 40), [39, 8], torch.bfloat16, norm=True, conv=4)
    assert differences(x, impl="triton", heads=4) == {}


def test_caches_of_several_layers_in_one():
    x = draw((2, 2, 2, 16, 20), [7, 19], torch.float32)
    expected = attention_decode(**{name: t.clone() for name, t in x.items()}, heads=2, scale=0.3, impl="triton")
    whole = torch.stack([x["keys"], x["values"]], 2)
    x |= {"keys": whole[:, :, 0], "values": whole[:, :, 1]}
    assert torch.equal(attention_decode(**x, heads=2, scale=0.3, impl="triton"), expected)
