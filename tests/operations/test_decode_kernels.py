"""A layer's token in one kernel, on a GPU, against float64; `interpreted` has a file of this name for the CPU."""

import functools
import importlib

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.testing import Case

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"),
]

OPERATIONS = ["gated_delta_decode", "ssd_decode"]
SETTINGS = {"gated_delta_decode": {"scale": 0.3, "gate_scale": 0.7, "beta_range": 2.0}, "ssd_decode": {}}
WIDE = ("memory", "A_log", "dt_bias", "D")  # in float32 whatever the type of the rest


def draw(operation, case, dtype, *, memory=torch.float32, values=True, device="cpu", seed=0):
    """Return the arguments; without ``values`` only q and k are convolved."""
    x = testing.inputs(operation, case, dtype=dtype, device=device, seed=seed)
    x |= {name: x[name].float() for name in WIDE if name in x and dtype != torch.float64}
    x["memory"] = x["memory"].to(memory if dtype != torch.float64 else dtype)
    if not values:
        keys = 2 * case.heads * case.key_dim
        x |= {"weight": x["weight"][:keys], "ring": x["ring"][..., :keys].contiguous()}
    return x


def errors(operation, x, **settings):
    """Return what is over budget of the output, the memory and the ring, updated in place, with the error."""
    exact = {name: t.double() if t.is_floating_point() else t for name, t in x.items()}
    settings = SETTINGS[operation] | settings
    expected = testing.run(operation, exact, impl="reference", **settings)
    actual = testing.run(operation, x, impl="triton", **settings)
    # In float32 inside, whatever the type of x; a memory in half precision is rounded once; a ring takes x as it is.
    budgets = {name: testing.BUDGETS[actual[name].dtype].output for name in ("output", "memory")} | {"ring": 0.0}
    found = {name: testing.relative_error(actual[name], expected[name]) for name in expected}
    return {name: error for name, error in found.items() if not error <= budgets[name]}


def case(batch, heads, group, key_dim, value_dim, width=4):
    return Case(batch=batch, heads=heads, group=group, key_dim=key_dim, value_dim=value_dim, width=width)


# Where a head is one tile or many, K or V no powers of two, heads grouped, the convolution narrow or of one tap.
SIZES = [case(3, 2, 1, 16, 16), case(2, 1, 2, 40, 24), case(1, 1, 1, 96, 64, 2), case(2, 1, 3, 16, 8, 1)]
LARGE = [
    *[case(1, 6, 1, 256, 512), case(64, 6, 1, 96, 192), case(256, 2, 4, 40, 40), case(5, 4, 1, 192, 504)],
    *[case(1, 1, 64, 128, 64), case(64, 1, 8, 128, 512, 3)],
]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("memory", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("of", SIZES + LARGE, ids=str)
def test_equals_the_definition(operation, of, memory):
    x = draw(operation, of, torch.bfloat16, memory=memory, device="cuda")
    assert errors(operation, x) == {}
    assert errors(operation, x, settled=True) == {}


@pytest.mark.parametrize("of", SIZES + LARGE, ids=str)
def test_values_that_are_not_convolved(of):
    operation = "gated_delta_decode"
    assert errors(operation, draw(operation, of, torch.bfloat16, values=False, device="cuda")) == {}


def function(operation, impl):
    return functools.partial(getattr(importlib.import_module(f"gdnbench_kernels.{operation}"), operation), impl=impl)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_tokens_one_after_another_with_nothing_between(operation):
    """A kernel that starts while the one before still runs must not read a memory that this one writes."""
    x = draw(operation, case(16, 4, 1, 128, 128), torch.bfloat16, device="cuda")
    exact = {name: t.double() if t.is_floating_point() else t for name, t in x.items()}
    with torch.no_grad():
        for impl, tensors in (("triton", x), ("reference", exact)):
            for _ in range(50):
                function(operation, impl)(**tensors, **SETTINGS[operation])
    assert testing.relative_error(x["memory"], exact["memory"]) <= testing.BUDGETS[torch.float32].output


@pytest.mark.parametrize("operation", OPERATIONS)
def test_in_a_cuda_graph(operation):
    x = draw(operation, case(4, 2, 2, 64, 64), torch.bfloat16, device="cuda")
    decode = functools.partial(function(operation, "triton"), **SETTINGS[operation])
    start = {name: x[name].clone() for name in ("ring", "memory", "lengths")}

    def token(settled):
        output = decode(**x, settled=settled)
        x["lengths"].add_(1)
        return output

    with torch.no_grad():
        expected = [token(False).clone() for _ in range(6)]
        final = {name: x[name].clone() for name in start}
        for name, value in start.items():
            x[name].copy_(value)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = token(True)
        for each in expected:
            graph.replay()
            assert torch.equal(output, each)
    assert all(torch.equal(x[name], final[name]) for name in start)
