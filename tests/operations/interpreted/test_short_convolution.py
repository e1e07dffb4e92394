"""The kernels of the short convolution on the CPU: results and all gradients against the definition in float64."""

from functools import partial

import pytest
import torch
import triton.language as tl
from gdnbench_kernels import testing
from gdnbench_kernels.backends import BackendRefusal
from gdnbench_kernels.short_convolution import gpu, short_convolution, short_convolutions
from gdnbench_kernels.short_convolution.impl import triton
from gdnbench_kernels.testing import Case

from tests.operations.test_short_convolution import LENGTHS, by_parts, cut, draw, mismatches

NARROW = {"heads": 1, "value_dim": 24}


@pytest.fixture(autouse=True)
def short_runs(request, monkeypatch):
    """The interpreter takes its time for every token of a run, also where a sequence has ended."""
    if "full_length" not in request.node.name:
        monkeypatch.setattr(gpu, "BACKWARD_RUN", 2)
        monkeypatch.setattr(gpu, "BACKWARD_RUNS", 2)  # 8 groups: tiles of 32 tokens by 32 channels


@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize(("time", "width"), [(1, 2), (2, 4), (9, 3), (37, 4), (5, 8)])
def test_lengths_and_widths(time, width, state):
    assert mismatches(Case(time=time, width=width, state=state, **NARROW), torch.float32) == {}


@pytest.mark.parametrize("without", [(), ("bias",)])
@pytest.mark.parametrize("activation", ["silu", None])
def test_bias_and_activation_are_switches(activation, without):
    assert mismatches(Case(time=9, **NARROW), torch.float32, activation=activation, without=without) == {}


def test_half_precision():
    assert mismatches(Case(time=9, **NARROW), torch.float16) == {}


@pytest.mark.parametrize("state", [True, False])
def test_packed_sequences(state):
    assert mismatches(Case(state=state, **NARROW), torch.float32, lengths=LENGTHS) == {}


def test_more_sequences_than_are_counted_at_once(monkeypatch):
    monkeypatch.setattr(gpu, "COUNTED", tl.constexpr(2))
    assert mismatches(Case(heads=1, value_dim=8, width=2), torch.float32, lengths=LENGTHS) == {}


def test_more_channels_than_a_block_and_more_tiles_than_programs(monkeypatch):
    monkeypatch.setattr(gpu, "BACKWARD_PROGRAMS", 4)
    assert mismatches(Case(batch=1, time=160, heads=1, value_dim=136), torch.float32) == {}


@pytest.mark.parametrize(("time", "state"), [(63, True), (64, False), (64, True), (65, False)])
@pytest.mark.parametrize("channels", [24, 32])
def test_tiles_that_end_with_the_sequence_and_others(time, channels, state):
    case = Case(time=time, heads=1, value_dim=channels, state=state)
    assert mismatches(case, torch.float32) == {}


def test_runs_of_full_length(monkeypatch):
    monkeypatch.setattr(gpu, "FEW_PROGRAMS", 0)
    assert mismatches(Case(batch=1, time=150, **NARROW), torch.float32) == {}


def test_weights_wider_than_inputs():
    x, _ = draw(Case(time=9, **NARROW), torch.float16)
    x |= {name: x[name].float() for name in ("weight", "bias")}
    actual = testing.run_with_gradients("short_convolution", x, impl="triton")
    assert actual["d_weight"].dtype == actual["d_bias"].dtype == torch.float32
    assert testing.over_budget(actual, testing.oracle("short_convolution", x), torch.float16) == {}


def test_a_slice_of_a_wider_projection():
    x, _ = draw(Case(time=9, **NARROW), torch.float32)
    wide = torch.randn(2, 9, 40)
    wide[..., 8:32] = x["x"]
    gradients, outputs = [], []
    for own in (x["x"], wide[..., 8:32]):
        y, _ = short_convolution(**(x | {"x": own.requires_grad_()}), activation="silu", impl="triton")
        gradients += torch.autograd.grad(y.square().sum(), own)
        outputs.append(y)
    assert torch.equal(*outputs)
    assert torch.equal(*gradients)


def test_gradient_of_one_result_alone():
    x, _ = draw(Case(time=2, **NARROW), torch.float32)
    for through in (("output",), ("state",)):
        actual = testing.run_with_gradients("short_convolution", x, impl="triton", through=through)
        expected = testing.oracle("short_convolution", x, through=through)
        assert testing.over_budget(actual, expected, torch.float32) == {}


def test_refusals_name_who_serves():
    x, _ = draw(Case(time=3, width=9, **NARROW), torch.float32)
    with pytest.raises(BackendRefusal, match=r"^weight: W is 9, wants 2 to 8 .*served here by: reference, torch$"):
        short_convolution(**x, impl="triton")
    x, _ = draw(Case(time=3, **NARROW), torch.float64)
    with pytest.raises(BackendRefusal, match=r"^x: torch.float64, wants bfloat16, float16 or float32"):
        short_convolution(**x, impl="triton")


@pytest.mark.parametrize("state", [True, False])
def test_is_a_proper_operator(state):
    x, packing = draw(Case(heads=1, value_dim=8, width=2, state=state), torch.float32, lengths=[2, 0, 3])
    leaves = [x.get(name) for name in ("x", "weight", "bias", "initial_state")]
    leaves = [None if leaf is None else leaf.requires_grad_() for leaf in leaves]
    torch.library.opcheck(triton._forward.traced, (*leaves, packing["cu_seqlens"], True, state))


def test_compiles_without_a_graph_break():
    x, _ = draw(Case(time=5, **NARROW), torch.float32)

    def loss(**tensors):
        return short_convolution(**tensors, activation="silu", impl="triton")[0].square().sum()

    leaves = {name: tensor.requires_grad_() for name, tensor in x.items()}
    plain = torch.autograd.grad(loss(**leaves), list(leaves.values()))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for expected, actual in zip(plain, torch.autograd.grad(compiled(**leaves), list(leaves.values())), strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize(("biased", "rest", "dtype"), [(True, 24, torch.float32), (False, 0, torch.float16)])
def test_parts(biased, rest, dtype):
    found = by_parts(partial(short_convolutions, impl="triton"), dtype, biased=biased, rest=rest)
    expected = by_parts(cut, torch.float64, biased=biased, rest=rest)
    assert testing.over_budget(found, expected, dtype) == {}
    assert all(x.is_contiguous() for x in found.values())


def test_parts_are_a_proper_operator_that_compiles():
    x, weight = torch.randn(1, 3, 40, requires_grad=True), torch.randn(32, 4, requires_grad=True)
    torch.library.opcheck(triton._forward_parts.traced, (x, weight, None, 8, 16, True))
    plain = by_parts(partial(short_convolutions, impl="triton"), torch.float32)
    compiled = torch.compile(partial(short_convolutions, impl="triton"), fullgraph=True, backend="aot_eager")
    for name, value in by_parts(compiled, torch.float32).items():
        assert torch.equal(value, plain[name])
