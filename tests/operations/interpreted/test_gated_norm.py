"""The kernels of the gated norm on the CPU: output and all gradients against the definition in float64."""

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.backends import BackendRefusal
from gdnbench_kernels.gated_norm import gated_norm, gpu
from gdnbench_kernels.gated_norm.impl import triton
from gdnbench_kernels.gpu import partial_sums
from gdnbench_kernels.testing import Case

from tests.operations.test_gated_norm import mismatches


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("value_dim", [16, 40, 96, 192, 512])
def test_row_sizes(value_dim, dtype):
    assert mismatches(Case(time=7, heads=3, value_dim=value_dim), dtype) == {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("heads", "value_dim"), [(1, 16), (3, 8), (2, 24), (5, 320)])
def test_rows_of_heads_gated_first(heads, value_dim, dtype):
    case = Case(time=7, heads=heads, value_dim=value_dim)
    assert mismatches(case, dtype, operation="skipped_norm") == {}


def test_gate_first_without_a_skip():
    assert mismatches(Case(time=7, value_dim=24), torch.float32, gate_first=True) == {}


def test_what_is_skipped_may_be_a_slice():
    x = testing.inputs("skipped_norm", Case(time=5, value_dim=8), dtype=torch.float32)
    wide = torch.randn(2, 5, 48)
    wide[..., 16:32], wide[..., 32:] = x["skipped"], x["z"]
    pairs = torch.stack([x["skip"], x["skip"]], 1)
    views = x | {"skipped": wide[..., 16:32], "z": wide[..., 32:], "skip": pairs[:, 0]}
    whole, sliced = (gated_norm(**tensors, gate_first=True, impl="triton") for tensors in (x, views))
    assert torch.equal(whole, sliced)


def test_eps():
    assert mismatches(Case(time=7, value_dim=16), torch.float32, eps=0.5) == {}


def test_more_tiles_than_programs(monkeypatch):
    monkeypatch.setattr(gpu, "BACKWARD_PROGRAMS", 3)
    monkeypatch.setattr(gpu, "BACKWARD_TILE", 64)
    monkeypatch.setattr(partial_sums, "ROWS", 2)
    for operation in ("gated_norm", "skipped_norm"):
        assert mismatches(Case(time=13, heads=3, value_dim=24), torch.float32, operation=operation) == {}


def test_zero_rows():
    x = testing.inputs("gated_norm", Case(time=3, value_dim=16), dtype=torch.float32)
    x["x"][:, 1] = 0
    actual = testing.run_with_gradients("gated_norm", x, impl="triton")
    assert testing.over_budget(actual, testing.oracle("gated_norm", x), torch.float32) == {}


def test_weight_wider_than_rows():
    x = testing.inputs("gated_norm", Case(time=3, value_dim=16), dtype=torch.float16)
    x["weight"] = x["weight"].float()
    actual = testing.run_with_gradients("gated_norm", x, impl="triton")
    assert actual["d_weight"].dtype == torch.float32
    assert testing.over_budget(actual, testing.oracle("gated_norm", x), torch.float16) == {}


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_any_leading_dimensions(leading):
    rng = torch.Generator().manual_seed(0)
    x, z = (torch.randn(*leading, 24, generator=rng) for _ in range(2))
    weight = torch.ones(24)
    torch.testing.assert_close(gated_norm(x, z, weight, impl="triton"), gated_norm(x, z, weight, impl="reference"))


def test_slices_of_wider_projections():
    x = testing.inputs("gated_norm", Case(time=5, heads=2, value_dim=16), dtype=torch.float32)
    wide = torch.randn(2, 5, 80)
    wide[..., 8:40], wide[..., 40:72] = x["x"].flatten(2), x["z"].flatten(2)
    sliced = {"x": wide[..., 8:40].unflatten(2, (2, 16)), "z": wide[..., 40:72].unflatten(2, (2, 16))}
    # The second batch row of one slice alone, and one head: leading dimensions that do not merge.
    views = [lambda t: t, lambda t: t[1:], lambda t: t[:, 1:4], lambda t: t[:, :, :1]]
    for view in views:
        results = []
        for rows in (x, sliced):
            leaves = [view(rows[name]).detach().requires_grad_() for name in ("x", "z")]
            y = gated_norm(*leaves, x["weight"], impl="triton")
            results.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_refusals_name_who_serves():
    rows = torch.zeros(2, 24)
    with pytest.raises(
        BackendRefusal, match=r"^x: V is 20, wants a multiple of 8 from 16 to 8192 .*: reference, torch$"
    ):
        gated_norm(rows[:, :20], rows[:, :20], torch.ones(20), impl="triton")
    with pytest.raises(BackendRefusal, match=r"^x: torch.float64, wants bfloat16, float16 or float32"):
        gated_norm(rows.double(), rows.double(), torch.ones(24).double(), impl="triton")


def test_is_a_proper_operator():
    x = testing.inputs("gated_norm", Case(time=2, value_dim=16), dtype=torch.float32)
    leaves = tuple(tensor.requires_grad_() for tensor in x.values())
    torch.library.opcheck(triton._forward.traced, (*leaves, 1e-5, False, None, None))


def test_with_a_skip_it_is_a_proper_operator():
    x = testing.inputs("skipped_norm", Case(time=2, value_dim=8), dtype=torch.float32)
    x = {name: tensor.requires_grad_() for name, tensor in x.items()}
    first = x["x"], x["z"], x["weight"], 1e-5
    torch.library.opcheck(triton._forward.traced, (*first, True, x["skipped"], x["skip"]))


def test_compiles_without_a_graph_break():
    x = testing.inputs("gated_norm", Case(time=2, value_dim=16), dtype=torch.float32)

    def loss(**tensors):
        return gated_norm(**tensors, impl="triton").square().sum()

    leaves = {name: tensor.requires_grad_() for name, tensor in x.items()}
    plain = torch.autograd.grad(loss(**leaves), list(leaves.values()))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for expected, actual in zip(plain, torch.autograd.grad(compiled(**leaves), list(leaves.values())), strict=True):
        assert torch.equal(actual, expected)
