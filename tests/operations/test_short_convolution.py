"""The short convolution: its definition against PyTorch's, its forms against each other, the GPU kernels."""

from functools import partial

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.backends import BackendUnavailable
from gdnbench_kernels.short_convolution import short_convolution, short_convolutions
from gdnbench_kernels.testing import Case
from torch.nn import functional as F

F64 = torch.float64
forms = pytest.mark.parametrize("impl", ["reference", "torch"])
gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch")

# Lengths of packed sequences: empty ones, some shorter than the window, one longer than a tile.
LENGTHS = [0, 1, 2, 0, 9, 300, 0]


def draw(case, dtype, *, lengths=None, device="cpu"):
    """Return tensors and settings of a call; with ``lengths``, those sequences packed into its one row."""
    if lengths is None:
        return testing.inputs("short_convolution", case, dtype=dtype, device=device), {}
    case = Case(**{**vars(case), "batch": 1, "time": sum(lengths)})
    x = testing.inputs("short_convolution", case, dtype=dtype, device=device)
    if case.state:
        rng = torch.Generator().manual_seed(1)
        state = torch.randn(len(lengths), case.width - 1, x["x"].shape[2], generator=rng)
        x["initial_state"] = state.to(x["x"])
    return x, {"cu_seqlens": torch.tensor([0, *lengths], device=device).cumsum(0, dtype=torch.int32)}


def mismatches(case, dtype, *, lengths=None, device="cpu", impl="triton", without=(), **settings):
    """Return what is over budget, by tensor, of a backend's results and gradients."""
    x, packing = draw(case, dtype, lengths=lengths, device=device)
    x = {name: tensor for name, tensor in x.items() if name not in without}
    actual = testing.run_with_gradients("short_convolution", x, impl=impl, **packing, **settings)
    exact = "torch" if device == "cuda" else "reference"
    expected = testing.oracle("short_convolution", x, impl=exact, device=device, **packing, **settings)
    return testing.over_budget(actual, expected, dtype)


@forms
@pytest.mark.parametrize("width", [1, 2, 4, 7])
def test_is_a_depthwise_causal_convolution(width, impl):
    x, _ = draw(Case(time=11, width=width), F64)
    inputs = torch.cat([x["initial_state"], x["x"]], 1)
    sums = F.conv1d(inputs.mT, x["weight"][:, None], x["bias"], groups=x["weight"].shape[0]).mT
    for activation, expected in ((None, sums), ("silu", F.silu(sums))):
        output, state = short_convolution(**x, activation=activation, output_final_state=True, impl=impl)
        torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
        assert torch.equal(state, inputs[:, 11:])


SIZES, REST = (16, 40, 8), 24


def by_parts(function, dtype, *, device="cpu", biased=True, time=11, rest=REST):
    """Return the results of a call on three parts and a rest, and all gradients of a projection of them, by name."""
    rng = torch.Generator().manual_seed(0)
    channels = sum(SIZES)
    sizes = {"x": (2, time, channels + rest), "weight": (channels, 4)} | ({"bias": (channels,)} if biased else {})
    leaves = {
        name: torch.randn(size, generator=rng, dtype=torch.float64).to(device, dtype).requires_grad_()
        for name, size in sizes.items()
    }
    parts, others = function(**leaves, sizes=SIZES, activation="silu")
    results = [*parts, others]
    cotangents = [torch.randn(x.shape, generator=rng, dtype=torch.float64).to(x) for x in results]
    gradients = torch.autograd.grad(results, list(leaves.values()), cotangents)
    named = dict(zip(("a", "b", "c", "rest"), results, strict=True)) | dict(zip(leaves, gradients, strict=True))
    return {name: x.detach() for name, x in named.items() if x.numel()}


def cut(x, weight, bias=None, *, sizes, **settings):
    """What `short_convolutions` stands for."""
    y, _ = short_convolution(x[..., : len(weight)], weight, bias, **settings, impl="torch")
    return y.split(sizes, -1), x[..., len(weight) :]


@forms
@pytest.mark.parametrize("biased", [True, False])
def test_parts_are_cut_out_of_the_whole(biased, impl):
    found = by_parts(partial(short_convolutions, impl=impl), F64, biased=biased)
    for name, expected in by_parts(cut, F64, biased=biased).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-12, atol=1e-12)


def test_sizes_of_parts_add_up():
    x, weight = torch.zeros(1, 2, 9), torch.zeros(8, 4)
    for sizes in ((4, 4), (4, 4, 0), (4, 4, 1)):
        with pytest.raises(ValueError, match=r"^sizes: .* wants three numbers above 0 of sum D = 8"):
            short_convolutions(x, weight, sizes=sizes)
    with pytest.raises(ValueError, match=r"^weight: expected shape"):
        short_convolutions(x[..., :7], weight, sizes=(4, 2, 2))


@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize(("time", "width"), [(1, 4), (3, 4), (20, 2), (20, 5)])
def test_forms_agree(time, width, state):
    assert mismatches(Case(time=time, width=width, state=state), F64, impl="torch") == {}


@forms
def test_gradients_by_finite_differences(impl):
    x, packing = draw(Case(heads=1, value_dim=2, width=3), F64, lengths=[0, 1, 4])

    def results(*tensors):
        return short_convolution(*tensors[:3], initial_state=tensors[3], output_final_state=True, impl=impl, **packing)

    assert torch.autograd.gradcheck(results, tuple(tensor.requires_grad_() for tensor in x.values()))


@forms
@pytest.mark.parametrize("state", [True, False])
def test_packed_sequences_do_not_see_each_other(state, impl):
    lengths = [0, 1, 6, 2]
    x, packing = draw(Case(state=state), F64, lengths=lengths)
    output, final = short_convolution(**x, **packing, output_final_state=True, impl=impl)
    initial = x.pop("initial_state", torch.zeros_like(final))
    tokens = x.pop("x").split(lengths, 1)
    for i, (own, expected) in enumerate(zip(tokens, output.split(lengths, 1), strict=True)):
        if lengths[i] == 0:
            assert torch.equal(final[i], initial[i])
            continue
        alone, after = short_convolution(own, **x, initial_state=initial[i : i + 1], output_final_state=True, impl=impl)
        torch.testing.assert_close(alone, expected, rtol=1e-12, atol=1e-12)
        assert torch.equal(after[0], final[i])


@forms
def test_two_calls_with_the_state_between_equal_one(impl):
    x, _ = draw(Case(time=12), F64)
    whole, final = short_convolution(**x, output_final_state=True, impl=impl)
    state, outputs = x.pop("initial_state"), []
    for part in x.pop("x").split([2, 10], 1):
        output, state = short_convolution(part, **x, initial_state=state, output_final_state=True, impl=impl)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, 1), whole, rtol=1e-12, atol=1e-12)
    assert torch.equal(state, final)


@forms
def test_half_precision_is_summed_in_float32(impl):
    assert mismatches(Case(time=9), torch.bfloat16, impl=impl) == {}
    x, _ = draw(Case(time=9), torch.bfloat16)
    assert all(result.dtype == torch.bfloat16 for result in short_convolution(**x, output_final_state=True, impl=impl))


REFUSED = [
    ("weight", {"weight": torch.zeros(6, 0)}, r"^weight: expected at least one tap, got \[6, 0\]"),
    ("state", {"initial_state": torch.zeros(2, 4, 6)}, r"^initial_state: expected shape \[2, 3, 6\], got \[2, 4, 6\]"),
    ("type", {"weight": torch.zeros(6, 4, dtype=F64)}, r"^weight: torch.float64, but x is torch.float32"),
    ("rows", {"x": torch.zeros(2, 6, 5).mT}, r"^x: expected a contiguous last dimension, got strides"),
    ("activation", {"activation": "relu"}, r"^activation: 'relu', wants 'silu' or None"),
    ("batch", {"cu_seqlens": torch.tensor([0, 5])}, r"^x: expected a batch of 1"),
]


@pytest.mark.parametrize(("change", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_does_not_fit_is_refused(change, message):
    x = {"x": torch.zeros(2, 5, 6), "weight": torch.zeros(6, 4)}
    with pytest.raises(ValueError, match=message):
        short_convolution(**(x | change))


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ([0, 4], r"^cu_seqlens: from 0 to 4, wants 0 to T = 5"),
        ([0, 4, 3, 5], r"^cu_seqlens: wants values that never decrease, got \[0, 4, 3, 5\]"),
        ([[0, 5]], r"^cu_seqlens: expected int32 or int64 \[sequences \+ 1\]"),
    ],
)
def test_bounds_that_do_not_fit_are_refused(bounds, message):
    with pytest.raises(ValueError, match=message):
        short_convolution(torch.zeros(1, 5, 6), torch.zeros(6, 4), cu_seqlens=torch.tensor(bounds))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_kernels_say_that_they_need_a_gpu():
    with pytest.raises(BackendUnavailable, match=r"'triton' of short_convolution cannot run here: it needs an NVIDIA"):
        short_convolution(torch.zeros(1, 5, 6), torch.zeros(6, 4), impl="triton")


LARGE = [
    Case(batch=3, time=1000, heads=9, value_dim=256),
    Case(batch=2, time=257, heads=1, value_dim=40, width=3),
    Case(batch=40, time=1, heads=6, value_dim=128),
    Case(batch=1, time=700, heads=5, value_dim=72, width=8, state=False),
]


@gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
class TestOnGpu:
    @pytest.mark.parametrize("activation", ["silu", None])
    @pytest.mark.parametrize("case", LARGE)
    def test_equals_the_definition(self, case, activation, dtype):
        assert mismatches(case, dtype, device="cuda", activation=activation) == {}

    @pytest.mark.parametrize("state", [True, False])
    def test_packed_sequences(self, state, dtype):
        assert mismatches(Case(heads=3, value_dim=96, state=state), dtype, lengths=LENGTHS, device="cuda") == {}

    def test_is_bitwise_repeatable(self, dtype):
        x, packing = draw(Case(heads=3, value_dim=96), dtype, lengths=LENGTHS, device="cuda")
        once, again = (testing.run_with_gradients("short_convolution", x, impl="triton", **packing) for _ in range(2))
        assert all(torch.equal(once[name], again[name]) for name in once)

    def test_compiles_without_a_graph_break(self, dtype):
        x, packing = draw(Case(heads=3, value_dim=96), dtype, lengths=LENGTHS, device="cuda")

        def loss(**tensors):
            y, final = short_convolution(
                **tensors, **packing, output_final_state=True, activation="silu", impl="triton"
            )
            return (y.float() * 2).sum() + final.float().sum()

        leaves = {name: tensor.requires_grad_() for name, tensor in x.items()}
        plain = torch.autograd.grad(loss(**leaves), list(leaves.values()))
        compiled = torch.autograd.grad(torch.compile(loss, fullgraph=True)(**leaves), list(leaves.values()))
        for expected, actual in zip(plain, compiled, strict=True):
            torch.testing.assert_close(actual, expected)

    def test_in_a_cuda_graph(self, dtype):
        x, _ = draw(Case(batch=4, time=1, heads=3, value_dim=96), dtype, device="cuda")
        settings = {"output_final_state": True, "activation": "silu", "impl": "triton"}
        expected = short_convolution(**x, **settings)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = short_convolution(**x, **settings)
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))
