"""The linear cross entropy: its definition against PyTorch's, its forms against each other, the GPU kernel."""

import math
import sys
from types import ModuleType

import pytest
import torch
from gdnbench_kernels import backends, testing
from gdnbench_kernels.backends import BackendRefusal, BackendUnavailable
from gdnbench_kernels.linear_cross_entropy import chunked, linear_cross_entropy, linear_cross_entropy_scores
from gdnbench_kernels.linear_cross_entropy.impl import liger
from gdnbench_kernels.testing import Case
from torch.nn import functional as F

F64 = torch.float64
FORMS = ["reference", "torch", "whole"]
forms = pytest.mark.parametrize("impl", FORMS)
gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch")


def draw(case, dtype, *, ignored=(), device="cpu"):
    """Return the tensors of a call, in which the targets of tokens ``ignored`` do not count."""
    x = testing.inputs("linear_cross_entropy", case, dtype=dtype, device=device)
    x["targets"][list(ignored)] = -100
    return x


def mismatches(case, dtype, *, ignored=(), device="cpu", impl="triton", master=False, **settings):
    """Return what is over budget, by tensor, of a backend's results; ``master`` leaves the weight in float32."""
    x = draw(case, dtype, ignored=ignored, device=device)
    if master:
        x["weight"] = x["weight"].float()
    actual = testing.run_with_gradients("linear_cross_entropy", x, impl=impl, **settings)
    actual["scores"] = linear_cross_entropy_scores(**x, scale=0.5, impl=impl, **settings)
    exact = x | {"weight": x["weight"].to(dtype)}  # what the products are of
    expected = testing.oracle("linear_cross_entropy", exact, device=device)
    wide = {name: exact[name].double() for name in ("x", "weight")}
    expected["scores"] = linear_cross_entropy_scores(**(exact | wide), scale=0.5, impl="reference")
    if master:
        assert actual["d_weight"].dtype == torch.float32
    return testing.over_budget(actual, expected, dtype)


@forms
def test_is_the_cross_entropy_of_the_logits(impl):
    x = draw(Case(key_dim=5, value_dim=7), F64, ignored=[3, 8])
    logits = 0.3 * x["x"] @ x["weight"].T
    loss = linear_cross_entropy(**x, scale=0.3, impl=impl)
    torch.testing.assert_close(loss, F.cross_entropy(logits, x["targets"]), rtol=1e-12, atol=0)
    scores = linear_cross_entropy_scores(**x, scale=0.3, impl=impl)
    torch.testing.assert_close(scores, F.cross_entropy(logits, x["targets"], reduction="none"), rtol=1e-12, atol=1e-12)
    assert not scores[3] and not scores[8]


@pytest.mark.parametrize("impl", ["torch", "whole"])
@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16])
def test_forms_agree(impl, dtype):
    assert mismatches(Case(key_dim=12, value_dim=45), dtype, ignored=[0, 77], impl=impl) == {}


@pytest.mark.parametrize("chunk_size", [1, 7, 65, 128, 1000])
def test_chunks(chunk_size):
    assert mismatches(Case(key_dim=6, value_dim=9), F64, ignored=[7], impl="torch", chunk_size=chunk_size) == {}


@pytest.mark.parametrize("impl", ["torch", "whole"])
def test_master_weights(impl):
    case = Case(key_dim=12, value_dim=45)
    assert mismatches(case, torch.bfloat16, impl=impl, master=True) == {}


@forms
def test_gradients_by_finite_differences(impl):
    x = draw(Case(batch=1, time=5, key_dim=3, value_dim=4), F64, ignored=[1])
    targets = x.pop("targets")

    def loss(x, weight):
        return linear_cross_entropy(x, weight, targets, scale=0.7, impl=impl)

    assert torch.autograd.gradcheck(loss, tuple(tensor.requires_grad_() for tensor in x.values()))


@forms
@pytest.mark.parametrize("alone", ["x", "weight"])
def test_one_gradient_alone(alone, impl):
    x = draw(Case(time=9), F64)
    both = {name: x[name].clone().requires_grad_() for name in ("x", "weight")}
    linear_cross_entropy(**(x | both), impl=impl).backward()
    x[alone].requires_grad_()
    linear_cross_entropy(**x, impl=impl).backward()
    torch.testing.assert_close(x[alone].grad, both[alone].grad, rtol=1e-12, atol=1e-12)


def test_a_second_derivative_is_an_error_and_not_a_wrong_number():
    x = draw(Case(time=3), F64)
    x["x"].requires_grad_()
    (first,) = torch.autograd.grad(linear_cross_entropy(**x).square(), x["x"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@forms
def test_large_logits(impl):
    x = {
        "x": torch.tensor([[1e4, -1e4]]),
        "weight": torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        "targets": torch.tensor([1]),
    }
    x["x"].requires_grad_()
    loss = linear_cross_entropy(**x, impl=impl)
    loss.backward()
    assert loss == 2e4
    assert x["x"].grad.tolist() == [[1.0, -1.0]]


@forms
def test_where_no_target_counts(impl):
    x = draw(Case(batch=1, time=2), F64, ignored=[0, 1])
    assert linear_cross_entropy(**x, impl=impl).isnan()
    assert not linear_cross_entropy_scores(**x, impl=impl).any()


@pytest.mark.parametrize("impl", ["torch", "whole"])
def test_under_autocast(impl):
    x = draw(Case(key_dim=12, value_dim=45), torch.float32)
    leaves = {name: x[name].requires_grad_() for name in ("x", "weight")}
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(**x, impl=impl)
    loss.backward()
    narrow = {name: tensor.detach().bfloat16().requires_grad_() for name, tensor in leaves.items()}
    expected = linear_cross_entropy(**(x | narrow), impl=impl)
    expected.backward()
    assert (loss.dtype, loss) == (torch.float32, expected)
    for name, tensor in leaves.items():
        assert tensor.grad.dtype == torch.float32
        assert testing.relative_error(128 * tensor.grad, 128 * narrow[name].grad) < 0.01


def test_compiles_without_a_graph_break():
    x = draw(Case(), torch.float32, ignored=[5])
    leaves = {name: x[name].requires_grad_() for name in ("x", "weight")}

    def loss(**tensors):
        with torch.autocast("cpu", torch.bfloat16):
            hidden = tensors["x"].sin()
            return linear_cross_entropy(hidden, tensors["weight"], x["targets"], scale=0.5).square()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for expected, actual in zip(*(torch.autograd.grad(f(**leaves), leaves.values()) for f in (loss, compiled))):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("tokens", "words", "element", "rows"),
    [
        (65536, 32000, 2, 4096),
        (65536, 128256, 2, 1024),
        (100, 32000, 2, 100),
        (1000, 2**30, 2, 128),
        (70000, 50257, 4, 1280),
    ],
)
def test_chunks_hold_what_they_may(tokens, words, element, rows):
    assert chunked.rows_of_chunk(tokens, words, element) == rows
    assert rows == min(tokens, 128) or rows * words * element <= chunked.LOGITS_BYTES


REFUSED = [
    ("width", {"weight": torch.zeros(6, 4)}, r"^weight: expected shape \[any, 3\], got \[6, 4\]"),
    ("type", {"weight": torch.zeros(6, 3).bfloat16()}, r"^weight: torch.bfloat16, wants torch.float32 or the "),
    ("rows", {"x": torch.zeros(3, 5).mT}, r"^x: expected a contiguous last dimension, got strides"),
    ("word", {"targets": torch.tensor([0, 1, 6, 2, 3])}, r"^targets: 6, wants 0 to 5 \(V - 1\), or -100"),
    ("negative", {"targets": torch.tensor([0, 1, -1, 2, 3])}, r"^targets: -1, wants 0 to 5 "),
    ("integer", {"targets": torch.zeros(5, dtype=torch.int32)}, r"^targets: expected int64 on cpu, got torch.int32"),
    ("scale", {"scale": 0.0}, r"^scale: 0.0, wants a number above 0"),
    ("nan", {"scale": math.nan}, r"^scale: nan, wants a number above 0"),
    ("chunk", {"chunk_size": 0}, r"^chunk_size: 0, wants at least 1 token"),
]


@pytest.mark.parametrize(("change", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_does_not_fit_is_refused(change, message):
    x = {"x": torch.zeros(5, 3), "weight": torch.zeros(6, 3), "targets": torch.zeros(5, dtype=torch.int64)}
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(**(x | change))


def test_a_form_without_chunks_refuses_their_size():
    with pytest.raises(BackendRefusal, match=r"^chunk_size: 4, wants None: .*'whole'.*served here by: .*torch"):
        linear_cross_entropy(**draw(Case(), F64), chunk_size=4, impl="whole")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_kernel_says_that_it_needs_a_gpu():
    with pytest.raises(
        BackendUnavailable, match=r"'triton' of linear_cross_entropy cannot run here: it needs an NVIDIA"
    ):
        linear_cross_entropy(**draw(Case(), torch.float32), impl="triton")


class LigerStandIn:
    """liger-kernel 0.8.5, liger_kernel/ops/fused_linear_cross_entropy.py: its autograd function's signature."""

    @staticmethod
    def apply(
        _input, weight, target, bias=None, ce_weight=None, ignore_index=-100, lse_square_scale=0.0, label_smoothing=0.0,
        reduction="mean", softcap=None, return_z_loss=False, accum_dtype=None,
    ):  # fmt: skip
        assert bias is ce_weight is softcap is None and not (lse_square_scale or label_smoothing or return_z_loss)
        assert accum_dtype is torch.float32
        assert weight.dtype == _input.dtype or torch.is_autocast_enabled(_input.device.type)
        logits = F.linear(_input, weight).float()
        return F.cross_entropy(logits, target, ignore_index=ignore_index, reduction=reduction), None, None, None


@pytest.mark.parametrize("master", [True, False])
def test_liger_gets_what_its_signature_wants(master, monkeypatch):
    path = "liger_kernel.ops.fused_linear_cross_entropy"
    for name in ("liger_kernel", "liger_kernel.ops", path):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules[path].LigerFusedLinearCrossEntropyFunction = LigerStandIn
    monkeypatch.setattr(liger, "why_unavailable", lambda: None)
    monkeypatch.setattr(liger, "refuses", lambda *tensors, **facts: None)
    monkeypatch.setattr(backends, "_resolved", set())
    case = Case(key_dim=12, value_dim=45)
    assert mismatches(case, torch.bfloat16, ignored=[3], impl="liger", master=master) == {}


def test_liger_refuses_what_it_would_leave_out():
    x = draw(Case(), torch.bfloat16)
    assert liger.refuses(**x, chunk_size=128) == "chunk_size: 128, wants None: it has its own"
    assert liger.refuses(**x, chunk_size=None) == "x: on cpu, wants a CUDA device"


@gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
class TestOnGpu:
    @pytest.mark.parametrize("words", [5, 1000, 8192, 32000, 50257, 128256])
    def test_equals_the_definition(self, words, dtype):
        case = Case(batch=1, time=700, key_dim=96, value_dim=words)
        assert mismatches(case, dtype, ignored=[0, 699], device="cuda", chunk_size=256) == {}

    def test_master_weights(self, dtype):
        case = Case(batch=1, time=700, key_dim=96, value_dim=32000)
        assert mismatches(case, dtype, device="cuda", master=True) == {}

    def test_a_target_out_of_range_is_no_number(self, dtype):
        for wrong in (32, -1, 2**33):
            x = draw(Case(value_dim=32), dtype, device="cuda")
            x["targets"][5] = wrong
            assert linear_cross_entropy_scores(**x, impl="triton").isnan().nonzero().tolist() == [[5]]
            assert linear_cross_entropy(**x, impl="triton").isnan()

    def test_is_bitwise_repeatable(self, dtype):
        x = draw(Case(time=700, key_dim=96, value_dim=32000), dtype, device="cuda")
        once, again = (testing.run_with_gradients("linear_cross_entropy", x, impl="triton") for _ in range(2))
        assert all(torch.equal(once[name], again[name]) for name in once)

    def test_compiles_without_a_graph_break(self, dtype):
        x = draw(Case(key_dim=96, value_dim=1000), dtype, device="cuda")
        leaves = {name: x[name].requires_grad_() for name in ("x", "weight")}

        def loss(**tensors):
            return 128 * linear_cross_entropy(**tensors, targets=x["targets"], impl="triton")

        plain = torch.autograd.grad(loss(**leaves), list(leaves.values()))
        compiled = torch.autograd.grad(torch.compile(loss, fullgraph=True)(**leaves), list(leaves.values()))
        for expected, actual in zip(plain, compiled, strict=True):
            torch.testing.assert_close(actual, expected)

    def test_in_a_cuda_graph(self, dtype):
        x = draw(Case(key_dim=96, value_dim=1000), dtype, device="cuda")
        expected = testing.run_with_gradients("linear_cross_entropy", x, impl="triton")
        leaves = {name: x[name].requires_grad_() for name in ("x", "weight")}
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = linear_cross_entropy(**(x | leaves), scale=0.5, impl="triton")
            captured = torch.autograd.grad(loss, list(leaves.values()))
        graph.replay()
        assert all(gradient.isfinite().all() and gradient.any() for gradient in captured)
        torch.testing.assert_close(len(x["targets"]) * loss.detach(), expected["output"])
