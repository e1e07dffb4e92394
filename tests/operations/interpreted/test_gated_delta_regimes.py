"""The chunked kernels of the gated delta rule in every regime: gates, keys, writing strengths, raw arguments, types."""

import itertools

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.testing import Case

from tests.operations.agreement import RAW, allowance, disagreements, draw, exact, run

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
BETAS = (None, 0.0, 1.0, 2.0)


def mismatches(call, dtype, slack=1.0):
    return disagreements(run(call), exact(call), dtype, slack=slack)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("keys", testing.KEYS)
@pytest.mark.parametrize("decay", testing.DECAYS)
def test_every_regime(decay, keys, beta):
    case = Case(batch=1, time=67, heads=1, key_dim=16, value_dim=24, decay=decay, keys=keys, beta=beta)
    assert mismatches(draw(case, F32), F32, allowance(case)) == {}


@pytest.mark.parametrize("dtype", [BF16, F16])
@pytest.mark.parametrize(
    ("decay", "keys", "beta"),
    [
        *itertools.product(testing.DECAYS, ["random"], [None]),
        *itertools.product(["none", "default"], ["correlated"], [None, 1.0, 2.0]),
        *[("none", "repeated", 1.0), ("none", "random", 2.0), ("strong", "correlated", 0.0)],
    ],
)
def test_half_precision(decay, keys, beta, dtype):
    case = Case(batch=1, time=100, heads=1, key_dim=40, value_dim=24, decay=decay, keys=keys, beta=beta)
    assert mismatches(draw(case, dtype), dtype, allowance(case)) == {}


@pytest.mark.parametrize("decay", ["none", "default"])
def test_one_token_that_forgets_everything(decay):
    # e^-10000 is 0, and differences of cumulative decays around it keep few digits: at most 10000 * 2^-24 = 6e-4.
    call = draw(Case(batch=1, time=130, heads=1, key_dim=16, value_dim=16, decay=decay), F32)
    call.tensors["g"][0, 70] = -1e4
    assert mismatches(call, F32) == {}


@pytest.mark.parametrize("key_dim", [40, 136])  # the second in two tiles of K, whose sums another kernel closes
@pytest.mark.parametrize("raw", [(), *((one,) for one in RAW), RAW])
def test_what_is_left_to_the_kernels(raw, key_dim):
    call = draw(Case(batch=1, time=70, heads=1, group=2, key_dim=key_dim, value_dim=24), F32, raw=raw)
    assert mismatches(call, F32) == {}


@pytest.mark.parametrize("dtype", [BF16, F16])
@pytest.mark.parametrize("key_dim", [40, 136])
def test_all_is_left_to_the_kernels_in_half_precision(key_dim, dtype):
    call = draw(Case(batch=1, time=100, heads=1, group=2, key_dim=key_dim, value_dim=24), dtype, raw=RAW)
    assert mismatches(call, dtype) == {}


@pytest.mark.parametrize("key_dim", [16, 136])
def test_zero_rows_have_the_gradients_of_the_recurrence(key_dim):
    call = draw(Case(batch=1, time=70, heads=2, key_dim=key_dim, value_dim=16), F32, raw=["norm"])
    call.tensors["q"][:, 3], call.tensors["k"][:, 5], call.tensors["k"][:, 64:66] = 0, 0, 0
    actual, expected = run(call), exact(call)
    # At a zero row the norm's slope is 1 / sqrt(1e-6): those rows' gradients dwarf the rest, so each is compared.
    for name, zero in (("d_q", call.tensors["q"]), ("d_k", call.tensors["k"])):
        rows = (zero == 0).all(-1)
        assert rows.any()
        for part in (rows, ~rows):
            assert testing.relative_error(actual[name][part], expected[name][part]) < 2e-3, name
    assert disagreements(actual, expected, F32) == {}


@pytest.mark.parametrize("raw", [(), RAW])
def test_gates_and_states_in_half_precision(raw):
    call = draw(Case(batch=1, time=70, heads=1, key_dim=16, value_dim=16), BF16, raw=raw)
    halves = {name: x.to(BF16) for name, x in call.tensors.items() if name in ("g", "beta", "initial_state")}
    call.tensors.update(halves)
    actual = run(call)
    assert disagreements(actual, exact(call), BF16) == {}
    assert {name for name, x in actual.items() if x.dtype == F32} == {
        "state",
        *(("d_A_log", "d_dt_bias") if raw else ()),
    }


@pytest.mark.parametrize("dtype", [BF16, F16])
@pytest.mark.parametrize("key_dim", [40, 136])
def test_strong_decay_with_norms(key_dim, dtype):
    """A decay's gradient is small then, and a token's own terms in it, which are not, must cancel."""
    case = Case(batch=1, time=100, heads=1, key_dim=key_dim, value_dim=24, decay="strong")
    assert mismatches(draw(case, dtype, raw=["norm"]), dtype) == {}
