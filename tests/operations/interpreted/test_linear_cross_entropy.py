"""The kernel of the linear cross entropy on the CPU: loss, scores and gradients against the definition in float64."""

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.backends import BackendRefusal
from gdnbench_kernels.linear_cross_entropy import gpu, linear_cross_entropy, linear_cross_entropy_scores
from gdnbench_kernels.linear_cross_entropy.impl import triton
from gdnbench_kernels.testing import Case

from tests.operations.test_linear_cross_entropy import draw, mismatches

# The interpreter computes lanes that no one reads, of memory that no one wrote.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(gpu, "TILE", {"BLOCK": 128, "num_warps": 4})


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("words", [2, 63, 64, 128, 129, 256, 501])
def test_numbers_of_words(words, dtype):
    assert mismatches(Case(batch=1, time=9, key_dim=12, value_dim=words), dtype, ignored=[0, 8], chunk_size=4) == {}


@pytest.mark.usefixtures("small_blocks")
def test_every_target():
    x = draw(Case(batch=1, time=257, key_dim=4, value_dim=257), torch.float32)
    x["targets"] = torch.arange(257).roll(100)
    actual = testing.run_with_gradients("linear_cross_entropy", x, impl="triton")
    assert testing.over_budget(actual, testing.oracle("linear_cross_entropy", x), torch.float32) == {}


def test_as_it_is_tiled_on_a_gpu():
    assert mismatches(Case(batch=1, time=3, key_dim=12, value_dim=9000), torch.bfloat16, ignored=[1]) == {}


def test_master_weights():
    case = Case(batch=1, time=9, key_dim=12, value_dim=45)
    assert mismatches(case, torch.float16, master=True) == {}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_logits_of_any_sign(size):
    words = torch.zeros(300, 2)
    words[[0, 130, 299], 0] = torch.tensor([1.0, 2.0, 4.0])
    words[:, 1] = 1
    x = {"x": torch.tensor([[1.0, size]]), "weight": words, "targets": torch.tensor([130])}
    actual = testing.run_with_gradients("linear_cross_entropy", x, impl="triton")
    assert testing.over_budget(actual, testing.oracle("linear_cross_entropy", x), torch.float32) == {}


def test_a_hit_beyond_doubt_and_a_miss_beyond_doubt():
    x = {"x": torch.tensor([[1e4, -1e4]] * 2), "weight": torch.eye(2), "targets": torch.tensor([0, 1])}
    x["x"].requires_grad_()
    loss = linear_cross_entropy(**x, impl="triton")
    loss.backward()
    assert loss == 1e4
    assert x["x"].grad.tolist() == [[0.0, 0.0], [0.5, -0.5]]


@pytest.mark.parametrize("wrong", [32, -1, 2**33])
def test_a_target_out_of_range_is_no_number(wrong):
    x = draw(Case(batch=1, time=3, value_dim=32), torch.float32)
    x["targets"][1] = wrong
    losses = torch.zeros(3)
    gpu.rows(torch.zeros(3, 32), x["targets"], losses, 1.0, True)
    assert losses.isnan().tolist() == [False, True, False]


def test_scores_are_not_those_of_rounded_logits():
    x = draw(Case(batch=1, time=9, key_dim=64, value_dim=45), torch.bfloat16)
    x["x"] *= 8
    exact = {name: x[name].double() for name in ("x", "weight")}
    expected = linear_cross_entropy_scores(**(x | exact), impl="reference")
    torch.testing.assert_close(linear_cross_entropy_scores(**x, impl="triton").double(), expected, rtol=1e-5, atol=1e-5)


def test_refusals_name_who_serves():
    with pytest.raises(BackendRefusal, match=r"^x: torch.float64, wants bfloat16, .*: reference, torch, .*whole$"):
        linear_cross_entropy(**draw(Case(), torch.float64), impl="triton")


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_is_a_proper_operator(wanted):
    x = draw(Case(batch=1, time=5), torch.float32)
    leaves = tuple(x[name].requires_grad_(want) for name, want in zip(("x", "weight"), wanted))
    torch.library.opcheck(triton._run, (*leaves, x["targets"], 0.5, 2, *wanted))


def test_compiles_without_a_graph_break():
    x = draw(Case(batch=1, time=5), torch.bfloat16)
    leaves = {name: x[name].requires_grad_() for name in ("x", "weight")}

    def loss(**tensors):
        return linear_cross_entropy(**tensors, targets=x["targets"], impl="triton").square()

    plain = torch.autograd.grad(loss(**leaves), list(leaves.values()))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for expected, actual in zip(plain, torch.autograd.grad(compiled(**leaves), list(leaves.values())), strict=True):
        assert torch.equal(actual, expected)
