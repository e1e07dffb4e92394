"""Chunked forms against the recurrent definitions: outputs, final states and the gradient of every input."""

import itertools

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.gated_delta.impl import torch as chunked_gated_delta
from gdnbench_kernels.kda.impl import torch as chunked_kda
from gdnbench_kernels.ssd.impl import torch as chunked_ssd
from gdnbench_kernels.testing import Case
from gdnbench_kernels.wkv7 import wkv7
from gdnbench_kernels.wkv7.impl import torch as chunked_wkv7
from hypothesis import given, settings
from hypothesis import strategies as st

CHUNKED = {"gated_delta": chunked_gated_delta, "ssd": chunked_ssd, "wkv7": chunked_wkv7, "kda": chunked_kda}
OPERATIONS = [*CHUNKED, "attention"]
# Lengths around the chunk of 64, and head dims that are no powers of two.
SIZES = [(1, 5, 7), (2, 7, 5), (63, 24, 40), (64, 40, 24), (65, 5, 24), (130, 7, 40)]
BETAS = {
    "gated_delta": [None, 0.0, 1.0, 2.0], "kda": [None, 2.0], "wkv7": [None, 0.0, 1.0], "ssd": [None],
    "attention": [None],
}  # fmt: skip
REGIMES = [
    (operation, decay, keys, beta)
    for operation in OPERATIONS
    for decay, keys, beta in itertools.product(testing.DECAYS, testing.KEYS, BETAS[operation])
    if operation != "attention" or decay == "none"
]


def mismatches(operation, case, dtype, seed=0):
    """Return what is over budget, by tensor; the oracle gets the same rounded inputs."""
    x = testing.inputs(operation, case, dtype=dtype, seed=seed)
    actual = testing.run_with_gradients(operation, x, impl="torch")
    return testing.over_budget(actual, testing.oracle(operation, x), dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("operation", "decay", "keys", "beta"), REGIMES)
def test_every_gate_regime(operation, decay, keys, beta, dtype):
    case = Case(batch=1, time=67, key_dim=5, value_dim=7, decay=decay, keys=keys, beta=beta)
    assert mismatches(operation, case, dtype) == {}


@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize(("time", "key_dim", "value_dim"), SIZES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_lengths_and_head_dims(operation, time, key_dim, value_dim, group, state):
    case = Case(batch=1, time=time, key_dim=key_dim, value_dim=value_dim, group=group, state=state, past=2 * state)
    assert mismatches(operation, case, torch.float64) == {}


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    case=st.builds(
        Case,
        batch=st.integers(1, 3),
        time=st.integers(1, 72),
        past=st.integers(0, 5),
        heads=st.integers(1, 3),
        group=st.integers(1, 3),
        key_dim=st.integers(1, 9),
        value_dim=st.integers(1, 9),
        decay=st.sampled_from(testing.DECAYS),
        keys=st.sampled_from(testing.KEYS),
        state=st.booleans(),
    ),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_any_shape(operation, case, seed):
    assert mismatches(operation, case, torch.float64, seed) == {}


@pytest.mark.parametrize("impl", ["reference", "torch"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_gradients_by_finite_differences(operation, impl, monkeypatch):
    # Chunks of 2, so that five tokens cross two borders and end in padding.
    if operation in CHUNKED:
        monkeypatch.setattr(CHUNKED[operation], "CHUNK_SIZE", 2)
    case = Case(
        batch=1,
        time=5,
        heads=1,
        group=1 if operation in ("wkv7", "kda") else 2,
        key_dim=2,
        value_dim=3,
        decay="default",
    )
    x = {name: t.requires_grad_() for name, t in testing.inputs(operation, case, dtype=torch.float64).items()}

    def results(*tensors):
        return tuple(testing.run(operation, dict(zip(x, tensors, strict=True)), impl=impl).values())

    assert torch.autograd.gradcheck(results, tuple(x.values()))


@pytest.mark.parametrize("operation", CHUNKED)
def test_two_calls_with_the_state_between_equal_one(operation):
    # Split inside a chunk, so that the chunks of both halves lie otherwise than those of the whole.
    x = testing.inputs(operation, Case(time=100, decay="none"), dtype=torch.float64)
    whole = testing.run(operation, x, impl="torch")
    state, outputs = x.pop("initial_state"), []
    for part in (slice(0, 37), slice(37, 100)):
        result = testing.run(operation, {n: t[:, part] for n, t in x.items()} | {"initial_state": state}, impl="torch")
        outputs, state = [*outputs, result["output"]], result["state"]
    torch.testing.assert_close(torch.cat(outputs, 1), whole["output"], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(state, whole["state"], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("operation", CHUNKED)
def test_inputs_stay_as_they_were(operation):
    x = testing.inputs(operation, Case(), dtype=torch.float64)
    before = {name: t.clone() for name, t in x.items()}
    for impl in ("torch", "reference"):
        testing.run(operation, x, impl=impl)
    assert all(torch.equal(x[name], before[name]) for name in x)


def test_wkv7_stays_exact_at_its_decay_bound_over_a_long_sequence():
    # Inside a chunk keys are divided by a decay that reaches e^-39 here.
    x = testing.inputs("wkv7", Case(batch=1, time=1500, heads=1, key_dim=16, value_dim=16), dtype=torch.float32)
    x["w"] = torch.full_like(x["w"], testing.WKV7_STRONGEST)
    actual = testing.run_with_gradients("wkv7", x, impl="torch")
    errors = {name: testing.relative_error(actual[name], exact) for name, exact in testing.oracle("wkv7", x).items()}
    assert max(errors.values()) < 5e-6, errors


def test_wkv7_beyond_its_bound_is_exact_or_refused():
    x = testing.inputs("wkv7", Case(time=70), dtype=torch.float32)
    x["w"] = torch.full_like(x["w"], testing.STRONGEST)
    try:
        output, _ = wkv7(**x, impl="torch")
    except ValueError as error:
        assert "w" in str(error)
    else:
        assert output.isfinite().all()


@pytest.mark.parametrize("operation", ["attention", *CHUNKED])
def test_bfloat16_inputs(operation):
    assert mismatches(operation, Case(), torch.bfloat16) == {}
