"""The gated norm: its definition, PyTorch's form, the GPU kernels."""

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.backends import BackendUnavailable
from gdnbench_kernels.gated_norm import gated_norm
from gdnbench_kernels.testing import Case

F64 = torch.float64
forms = pytest.mark.parametrize("impl", ["reference", "torch"])
gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch")


def mismatches(case, dtype, *, operation="gated_norm", device="cpu", impl="triton", **settings):
    """Return what is over budget, by tensor, of a backend's output and gradients."""
    x = testing.inputs(operation, case, dtype=dtype, device=device)
    actual = testing.run_with_gradients(operation, x, impl=impl, **settings)
    return testing.over_budget(actual, testing.oracle(operation, x, device=device, **settings), dtype)


@forms
def test_every_row_has_mean_square_one_before_weight_and_gate(impl):
    x = testing.inputs("gated_norm", Case(value_dim=5), dtype=F64)
    y = gated_norm(**x, eps=0.0, impl=impl)
    normalized = y / x["weight"] / (x["z"] * x["z"].sigmoid())
    torch.testing.assert_close(normalized.square().mean(-1), torch.ones_like(y[..., 0]), rtol=1e-12, atol=0)
    assert torch.equal(normalized.sign(), x["x"].sign())


@forms
def test_eps_bounds_small_rows(impl):
    ones = torch.ones(1, 4, dtype=F64)
    y = gated_norm(1e-3 * ones, ones, ones[0], eps=3e-6, impl=impl)
    torch.testing.assert_close(y, 0.5 * ones.sigmoid(), rtol=1e-12, atol=0)  # 1e-3 / sqrt(1e-6 + 3e-6)
    assert not gated_norm(0 * ones, ones, ones[0], impl=impl).any()


@pytest.mark.parametrize(("dtype", "eps"), [(F64, 1e-5), (torch.float32, 1e-3), (torch.bfloat16, 1e-5)])
def test_forms_agree(dtype, eps):
    assert mismatches(Case(time=5, value_dim=7), dtype, impl="torch", eps=eps) == {}


@forms
def test_gradients_by_finite_differences(impl):
    x = testing.inputs("gated_norm", Case(batch=1, time=2, value_dim=3), dtype=F64)
    leaves = tuple(tensor.requires_grad_() for tensor in x.values())
    assert torch.autograd.gradcheck(lambda *tensors: gated_norm(*tensors, impl=impl), leaves)


@forms
def test_the_gate_comes_first_and_what_was_skipped_before_that(impl):
    x = testing.inputs("skipped_norm", Case(heads=3, value_dim=5), dtype=F64)
    y = gated_norm(**x, eps=0.0, gate_first=True, impl=impl)
    by_channel = torch.stack([x["skip"]] * 5, 1).flatten()
    gated = (x["x"] + by_channel * x["skipped"]) * x["z"] * x["z"].sigmoid()
    torch.testing.assert_close(y, gated / gated.square().mean(-1, keepdim=True).sqrt() * x["weight"])


@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16])
def test_forms_agree_gated_first(dtype):
    case = Case(time=5, heads=3, value_dim=7)
    assert mismatches(case, dtype, operation="skipped_norm", impl="torch") == {}


@forms
def test_gradients_by_finite_differences_gated_first(impl):
    x = testing.inputs("skipped_norm", Case(batch=1, time=2, value_dim=3), dtype=F64)
    leaves = {name: tensor.requires_grad_() for name, tensor in x.items()}

    def normed(*tensors):
        return gated_norm(**dict(zip(leaves, tensors, strict=True)), gate_first=True, impl=impl)

    assert torch.autograd.gradcheck(normed, tuple(leaves.values()))


@forms
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_any_leading_dimensions(leading, impl):
    x, z = torch.randn(2, *leading, 5, dtype=F64, generator=torch.Generator().manual_seed(0))
    weight = torch.ones(5, dtype=F64)
    rows = [gated_norm(*row, weight, impl=impl) for row in zip(x.reshape(-1, 5), z.reshape(-1, 5), strict=True)]
    torch.testing.assert_close(gated_norm(x, z, weight, impl=impl), torch.stack(rows).reshape(x.shape))


def test_what_does_not_fit_is_refused():
    x = testing.inputs("gated_norm", Case(batch=1, time=2), dtype=torch.float32)
    with pytest.raises(ValueError, match=r"^z: torch.float64, but x is torch.float32"):
        gated_norm(**(x | {"z": x["z"].double()}))
    with pytest.raises(ValueError, match=r"^z: expected a contiguous last dimension, got strides"):
        gated_norm(**(x | {"z": torch.zeros(1, 2, 8, 2).mT}))
    with pytest.raises(ValueError, match=r"^weight: expected shape \[8\], got \[9\]"):
        gated_norm(**(x | {"weight": torch.ones(9)}))
    with pytest.raises(ValueError, match=r"^skip: expected a tensor, as the other of both is one"):
        gated_norm(**x, gate_first=True, skipped=x["x"])
    with pytest.raises(ValueError, match=r"^skipped: only with gate_first"):
        gated_norm(**x, skipped=x["x"], skip=torch.ones(2))
    with pytest.raises(ValueError, match=r"^skipped: expected shape \[1, 2, 2, 8\], that of x, got \[1, 2, 2, 4\]"):
        gated_norm(**x, gate_first=True, skipped=x["x"][..., :4], skip=torch.ones(2))
    with pytest.raises(ValueError, match=r"^skip: expected \[H\], V = 8 a multiple of H, got \[3\]"):
        gated_norm(**x, gate_first=True, skipped=x["x"], skip=torch.ones(3))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_kernels_say_that_they_need_a_gpu():
    with pytest.raises(BackendUnavailable, match=r"'triton' of gated_norm cannot run here: it needs an NVIDIA GPU"):
        gated_norm(torch.zeros(2, 16), torch.zeros(2, 16), torch.zeros(16), impl="triton")


@gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
class TestOnGpu:
    @pytest.mark.parametrize("value_dim", [16, 40, 64, 96, 128, 192, 256, 384, 512])
    def test_equals_the_definition(self, value_dim, dtype):
        # More rows than one round of programs takes.
        assert mismatches(Case(batch=2, time=3001, heads=3, value_dim=value_dim), dtype, device="cuda") == {}

    @pytest.mark.parametrize(("heads", "value_dim"), [(8, 32), (24, 64), (64, 64), (4, 1024), (128, 64)])
    def test_equals_the_definition_gated_first(self, heads, value_dim, dtype):
        case = Case(batch=2, time=3001, heads=heads, value_dim=value_dim)
        assert mismatches(case, dtype, operation="skipped_norm", device="cuda") == {}

    def test_is_bitwise_repeatable(self, dtype):
        x = testing.inputs("gated_norm", Case(time=3001, value_dim=128), dtype=dtype, device="cuda")
        once, again = (testing.run_with_gradients("gated_norm", x, impl="triton") for _ in range(2))
        assert all(torch.equal(once[name], again[name]) for name in once)

    def test_compiles_without_a_graph_break(self, dtype):
        x = testing.inputs("gated_norm", Case(value_dim=64), dtype=dtype, device="cuda")

        def loss(**tensors):
            return gated_norm(**tensors, impl="triton").float().square().sum()

        leaves = {name: tensor.requires_grad_() for name, tensor in x.items()}
        plain = torch.autograd.grad(loss(**leaves), list(leaves.values()))
        compiled = torch.autograd.grad(torch.compile(loss, fullgraph=True)(**leaves), list(leaves.values()))
        for expected, actual in zip(plain, compiled, strict=True):
            torch.testing.assert_close(actual, expected)

    def test_in_a_cuda_graph(self, dtype):
        x = testing.inputs("gated_norm", Case(value_dim=64), dtype=dtype, device="cuda")
        expected = gated_norm(**x, impl="triton")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = gated_norm(**x, impl="triton")
        graph.replay()
        assert torch.equal(captured, expected)
