"""The residual sum and its norm: its definition, PyTorch's form, the GPU kernels."""

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.add_norm import add_norm
from gdnbench_kernels.backends import BackendUnavailable
from gdnbench_kernels.testing import Case

F64 = torch.float64
forms = pytest.mark.parametrize("impl", ["reference", "torch"])
gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch")


def mismatches(case, dtype, *, device="cpu", impl="triton", stream=None, through=("output", "state"), **settings):
    """Return what is over budget, by tensor, of a backend's results and gradients; ``stream`` is the type of x."""
    x = testing.inputs("add_norm", case, dtype=dtype, device=device)
    x["x"] = x["x"].to(stream or dtype)
    actual = testing.run_with_gradients("add_norm", x, impl=impl, through=through, **settings)
    expected = testing.oracle("add_norm", x, device=device, through=through, **settings)
    return testing.over_budget(actual, expected, dtype)


@forms
def test_is_a_sum_and_rows_of_mean_square_one_before_the_weight(impl):
    x = testing.inputs("add_norm", Case(value_dim=5), dtype=F64)
    total, normed = add_norm(**x, eps=0.0, impl=impl)
    assert torch.equal(total, x["x"] + x["y"])
    normalized = normed / x["weight"]
    torch.testing.assert_close(normalized.square().mean(-1), torch.ones_like(normed[..., 0]), rtol=1e-12, atol=0)
    assert torch.equal(normalized.sign(), total.sign())


@forms
def test_eps_bounds_small_rows(impl):
    ones = torch.ones(1, 4, dtype=F64)
    _, normed = add_norm(4e-4 * ones, 6e-4 * ones, ones[0], eps=3e-6, impl=impl)
    torch.testing.assert_close(normed, 0.5 * ones, rtol=1e-12, atol=0)  # 1e-3 / sqrt(1e-6 + 3e-6)
    assert not add_norm(ones, -ones, ones[0], impl=impl)[1].any()


@forms
def test_the_sum_stays_in_the_type_of_the_stream(impl):
    x, y, weight = torch.randn(2, 3, 8).float(), torch.randn(2, 3, 8).bfloat16(), torch.ones(8)
    total, normed = add_norm(x, y, weight, impl=impl)
    assert (total.dtype, normed.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(total, x + y)
    rounded, _ = add_norm(x.bfloat16(), y, weight, impl=impl)
    assert rounded.dtype == torch.bfloat16


@pytest.mark.parametrize(("dtype", "eps"), [(F64, 1e-5), (torch.float32, 1e-3), (torch.bfloat16, 1e-5)])
def test_forms_agree(dtype, eps):
    assert mismatches(Case(time=5, value_dim=7), dtype, impl="torch", eps=eps) == {}


@forms
def test_gradients_by_finite_differences(impl):
    x = testing.inputs("add_norm", Case(batch=1, time=2, value_dim=3), dtype=F64)
    leaves = tuple(tensor.requires_grad_() for tensor in x.values())
    assert torch.autograd.gradcheck(lambda *tensors: add_norm(*tensors, impl=impl), leaves)


def test_what_does_not_fit_is_refused():
    x = testing.inputs("add_norm", Case(batch=1, time=2), dtype=torch.float32)
    with pytest.raises(ValueError, match=r"^y: torch.float64, but x is torch.float32"):
        add_norm(**(x | {"y": x["y"].double()}))
    with pytest.raises(ValueError, match=r"^y: expected shape \[1, 2, 8\], that of x, got \[2, 8\]"):
        add_norm(**(x | {"y": x["y"][0]}))
    with pytest.raises(ValueError, match=r"^weight: expected shape \[8\], got \[9\]"):
        add_norm(**(x | {"weight": torch.ones(9)}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_kernels_say_that_they_need_a_gpu():
    with pytest.raises(BackendUnavailable, match=r"'triton' of add_norm cannot run here: it needs an NVIDIA GPU"):
        add_norm(torch.zeros(2, 16), torch.zeros(2, 16), torch.zeros(16), impl="triton")


@gpu
@needs_gpu
class TestOnGpu:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("width", [16, 64, 128, 768, 1024, 1536, 2048, 8192])
    def test_equals_the_definition(self, width, dtype):
        # More rows than one round of programs takes.
        assert mismatches(Case(batch=2, time=3001, value_dim=width), dtype, device="cuda") == {}

    def test_a_stream_in_single_precision(self):
        case = Case(batch=2, time=3001, value_dim=768)
        assert mismatches(case, torch.bfloat16, device="cuda", stream=torch.float32) == {}

    def test_is_bitwise_repeatable(self):
        x = testing.inputs("add_norm", Case(time=3001, value_dim=768), dtype=torch.bfloat16, device="cuda")
        once, again = (testing.run_with_gradients("add_norm", x, impl="triton") for _ in range(2))
        assert all(torch.equal(once[name], again[name]) for name in once)
