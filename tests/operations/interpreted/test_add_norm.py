"""The kernels of the residual sum and its norm on the CPU: results and all gradients against float64."""

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.add_norm import add_norm, gpu
from gdnbench_kernels.add_norm.impl import triton
from gdnbench_kernels.backends import BackendRefusal
from gdnbench_kernels.gpu import partial_sums
from gdnbench_kernels.testing import Case

from tests.operations.test_add_norm import mismatches


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [16, 40, 96, 768])
def test_row_sizes(width, dtype):
    assert mismatches(Case(time=7, value_dim=width), dtype) == {}


@pytest.mark.parametrize("through", [("output",), ("state",), ("output", "state")])
@pytest.mark.parametrize("stream", [torch.bfloat16, torch.float32])
def test_a_stream_of_its_own_type(stream, through):
    assert mismatches(Case(time=7, value_dim=24), torch.bfloat16, stream=stream, through=through) == {}


def test_eps():
    assert mismatches(Case(time=7, value_dim=16), torch.float32, eps=0.5) == {}


def test_more_tiles_than_programs(monkeypatch):
    monkeypatch.setattr(gpu, "BACKWARD_PROGRAMS", 3)
    monkeypatch.setattr(gpu, "BACKWARD_TILE", 64)
    monkeypatch.setattr(partial_sums, "ROWS", 2)
    assert mismatches(Case(time=37, value_dim=24), torch.float32) == {}


def test_rows_that_cancel():
    x = testing.inputs("add_norm", Case(time=3, value_dim=16), dtype=torch.float32)
    x["y"][:, 1] = -x["x"][:, 1]
    actual = testing.run_with_gradients("add_norm", x, impl="triton")
    assert testing.over_budget(actual, testing.oracle("add_norm", x), torch.float32) == {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_a_weight_of_zero_hides_has_gradients_all_the_same(dtype):
    x = testing.inputs("add_norm", Case(time=3, value_dim=16), dtype=dtype)
    x["weight"][5], x["weight"][6] = 0, -1e-30
    actual, expected = testing.run_with_gradients("add_norm", x, impl="triton"), testing.oracle("add_norm", x)
    assert all(expected["d_weight"][5:7] != 0)
    assert testing.over_budget(actual, expected, dtype) == {}


def test_inputs_of_any_strides():
    x = testing.inputs("add_norm", Case(time=5, value_dim=16), dtype=torch.float32)
    plain = testing.run_with_gradients("add_norm", x, impl="triton")
    laid_out = {"x": lambda t: t.mT.contiguous().mT, "y": lambda t: torch.cat([t, t], -1)[..., :16]}
    strided = testing.run_with_gradients(
        "add_norm",
        x,
        impl="triton",
        laid_out=lambda t: {name: laid_out.get(name, lambda same: same)(each) for name, each in t.items()},
    )
    assert all(torch.equal(plain[name], strided[name]) for name in plain)


def test_refusals_name_who_serves():
    rows = torch.zeros(2, 24)
    with pytest.raises(
        BackendRefusal, match=r"^x: D is 20, wants a multiple of 8 from 16 to 8192 .*: reference, torch$"
    ):
        add_norm(rows[:, :20], rows[:, :20], torch.ones(20), impl="triton")
    with pytest.raises(BackendRefusal, match=r"^x: torch.float64, wants bfloat16, float16 or float32"):
        add_norm(rows.double(), rows.double(), torch.ones(24).double(), impl="triton")
    with pytest.raises(BackendRefusal, match=r"^x: torch.bfloat16, wants torch.float32 as y, or torch.float32"):
        add_norm(rows.bfloat16(), rows, torch.ones(24), impl="triton")


def test_is_a_proper_operator():
    x = testing.inputs("add_norm", Case(time=2, value_dim=16), dtype=torch.float32)
    leaves = tuple(tensor.requires_grad_() for tensor in x.values())
    torch.library.opcheck(triton._forward.traced, (*leaves, 1e-5))


def test_compiles_without_a_graph_break():
    x = testing.inputs("add_norm", Case(time=2, value_dim=16), dtype=torch.float32)

    def loss(**tensors):
        total, normed = add_norm(**tensors, impl="triton")
        return (total + normed).square().sum()

    leaves = {name: tensor.requires_grad_() for name, tensor in x.items()}
    plain = torch.autograd.grad(loss(**leaves), list(leaves.values()))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for expected, actual in zip(plain, torch.autograd.grad(compiled(**leaves), list(leaves.values())), strict=True):
        assert torch.equal(actual, expected)
