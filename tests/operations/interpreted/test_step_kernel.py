"""The decode step on the CPU against the recurrence in float64, and as an operator of PyTorch."""

import pytest
import torch
from gdnbench_kernels.gated_delta import gated_delta_rule_step
from gdnbench_kernels.gated_delta.gpu.step import gated_delta_step

from tests.operations.test_step_kernel import FUSED, PLAIN, SIZES, check, draw


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("settings", [PLAIN, FUSED], ids=["plain", "fused"])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_recurrence(size, settings, dtype):
    check(size, dtype, settings)


@pytest.mark.parametrize("switch", ["normalize_qk", "gate", "beta_range"])
def test_each_fusion_by_itself(switch):
    check((1, 1, 2, 24, 16), torch.float32, PLAIN | {switch: FUSED[switch], "gate_scale": 0.5})


def test_state_in_half_precision():
    check((1, 2, 2, 32, 32), torch.float32, FUSED, state_dtype=torch.float16)


def test_zero_query_and_key():
    x = draw((1, 1, 1, 16, 16), torch.float32)
    x["q"].zero_()
    x["k"].zero_()
    before = x["state"].clone()
    output, state = gated_delta_rule_step(**x, normalize_qk=True, beta_range=2.0, impl="triton")
    assert torch.equal(output, torch.zeros_like(output))
    assert torch.equal(x["state"], before)
    assert state.isfinite().all()


def test_slices_of_one_projection():
    x = draw((2, 2, 2, 16, 24), torch.float32)
    row = torch.cat([x[name].flatten(1) for name in ("q", "k", "v", "g", "beta")], 1)
    q, k, v, g, beta = row.split([32, 32, 48, 2, 2], 1)
    sliced = {
        "q": q.unflatten(1, (2, 16)),
        "k": k.unflatten(1, (2, 16)),
        "v": v.unflatten(1, (2, 24)),
        "g": g,
        "beta": beta,
    }
    results = [gated_delta_rule_step(**(x | own), beta_range=1.0, impl="triton") for own in ({}, sliced)]
    for plain, strided in zip(*results):
        assert torch.equal(plain, strided)


def test_one_layer_of_a_cache():
    # [B, layers, ...]: each [K, V] is contiguous, the heads of a sequence lie far from those of the next.
    x = draw((3, 1, 2, 16, 16), torch.float32)
    cache = torch.stack([torch.zeros_like(x["state"]), x["state"], torch.ones_like(x["state"])], 1)
    _, expected = gated_delta_rule_step(**x, impl="triton")
    gated_delta_rule_step(**(x | {"state": cache[:, 1]}), inplace=True, impl="triton")
    assert torch.equal(cache[:, 1], expected)
    assert torch.equal(cache[:, 0], torch.zeros_like(expected))
    assert torch.equal(cache[:, 2], torch.ones_like(expected))


def test_is_a_proper_operator():
    x = draw((2, 1, 2, 16, 16), torch.float32)
    tensors = [x[name] for name in ("q", "k", "v", "g", "beta", "state", "A_log", "dt_bias")]
    torch.library.opcheck(gated_delta_step.traced, (*tensors, 0.5, 0.7, 1.0, True))
    torch.library.opcheck(gated_delta_step.traced, (*tensors[:6], None, None, 0.5, 1.0, None, False))
