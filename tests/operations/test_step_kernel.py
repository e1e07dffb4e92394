"""The decode step on a GPU against the recurrence in float64; `interpreted` has a file of this name for the CPU."""

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.gated_delta import gated_delta_rule_step
from torch.nn import functional as F

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"),
]

# Sizes (B, H, HV, K, V): where a head is one tile or many, where K or V are no powers of two, few heads, grouped heads.
SIZES = [(2, 2, 2, 16, 16), (3, 1, 2, 40, 24), (1, 2, 2, 96, 192), (1, 1, 3, 256, 64)]
PLAIN = {"normalize_qk": False, "gate": False, "beta_range": None, "gate_scale": 1.0}
FUSED = {"normalize_qk": True, "gate": True, "beta_range": 2.0, "gate_scale": 0.7}


def draw(size, dtype, *, state_dtype=torch.float32, gate=True, device="cpu", seed=0):
    """Return the tensor arguments of a step, raw where they are to be made inside."""
    batch, heads, value_heads, key_dim, value_dim = size
    rng = torch.Generator(device).manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=rng, device=device)

    x = {
        "q": F.normalize(normal(batch, heads, key_dim), dim=-1).to(dtype),
        "k": F.normalize(normal(batch, heads, key_dim), dim=-1).to(dtype),
        "v": normal(batch, value_heads, value_dim).to(dtype),
        "g": -normal(batch, value_heads).abs(),
        "beta": normal(batch, value_heads).sigmoid(),
        "state": normal(batch, value_heads, key_dim, value_dim).to(state_dtype),
    }
    return x | ({"A_log": normal(value_heads), "dt_bias": normal(value_heads) - 3} if gate else {})


def errors(x, settings):
    """Return what is over budget of the kernel's output and of its state, updated in place, with the error."""
    exact = {name: tensor.double() for name, tensor in x.items()}
    output, state = gated_delta_rule_step(**exact, scale=0.3, **settings, impl="reference")
    actual, updated = gated_delta_rule_step(**x, scale=0.3, **settings, inplace=True, impl="triton")
    assert updated is x["state"]
    # In float32 inside, whatever the type of q, k and v; a state in half precision is rounded once.
    found = {
        "output": (testing.relative_error(actual, output), testing.BUDGETS[x["v"].dtype].output),
        "state": (testing.relative_error(updated, state), testing.BUDGETS[x["state"].dtype].output),
    }
    return {name: error for name, (error, budget) in found.items() if not error <= budget}


def check(size, dtype, settings, **options):
    settings = dict(settings)
    assert errors(draw(size, dtype, gate=settings.pop("gate"), **options), settings) == {}


LARGE = [(64, 16, 16, 128, 128), (1, 6, 6, 256, 512), (5, 6, 6, 96, 192), (7, 2, 8, 40, 40), (3, 4, 4, 200, 504)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("settings", [PLAIN, FUSED], ids=["plain", "fused"])
@pytest.mark.parametrize("size", SIZES + LARGE)
def test_equals_the_recurrence(size, settings, dtype):
    check(size, dtype, settings, device="cuda")


@pytest.mark.parametrize("size", SIZES + LARGE)
def test_state_in_bfloat16(size):
    check(size, torch.bfloat16, FUSED, state_dtype=torch.bfloat16, device="cuda")


def test_in_a_cuda_graph():
    x = draw((4, 2, 2, 64, 64), torch.bfloat16, device="cuda")
    settings = {"scale": 0.3, "normalize_qk": True, "beta_range": 1.0, "inplace": True, "impl": "triton"}
    start = x["state"].clone()
    with torch.no_grad():
        expected = [gated_delta_rule_step(**x, **settings)[0].clone() for _ in range(4)]
        final = x["state"].clone()
        x["state"].copy_(start)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output, _ = gated_delta_rule_step(**x, **settings)
        for each in expected:
            graph.replay()
            assert torch.equal(output, each)
    assert torch.equal(x["state"], final)


def test_compiles_without_a_graph_break():
    x = draw((2, 2, 2, 64, 64), torch.bfloat16, gate=False, device="cuda")

    def step(**tensors):
        return gated_delta_rule_step(**tensors, scale=0.3, inplace=True, impl="triton")

    with torch.no_grad():
        expected, state = step(**{name: tensor.clone() for name, tensor in x.items()})
        actual, updated = torch.compile(step, fullgraph=True)(**x)
    assert torch.equal(actual, expected)
    assert torch.equal(updated, state)
    assert torch.equal(x["state"], state)
