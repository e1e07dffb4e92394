"""Attention kernels by name: nothing else runs, refusals say why, and the compiler sees one operator."""

import warnings

import pytest
import torch
from gdnbench_kernels import backends, requirements, testing
from gdnbench_kernels.attention import attention, fused
from gdnbench_kernels.backends import BackendRefusal, BackendUnavailable
from gdnbench_kernels.testing import Case

NAMED = ["flash", "cudnn"]
CASE = Case(batch=2, time=24, heads=2, group=2, key_dim=16, value_dim=16)
named = pytest.mark.parametrize("impl", NAMED)


@pytest.fixture
def machine(monkeypatch):
    """A machine whose GPU is there, as far as metadata tells."""
    monkeypatch.setattr(requirements, "missing", lambda *args, **wants: None)
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    monkeypatch.setattr(backends, "_resolved", set())


@named
def test_without_a_gpu_it_is_unavailable_and_nothing_else_runs(impl, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(backends, "_resolved", set())
    x = testing.inputs("attention", CASE, dtype=torch.bfloat16)
    with pytest.raises(BackendUnavailable, match=f"'{impl}' of attention cannot run here: there is no NVIDIA GPU"):
        attention(**x, scale=0.5, impl=impl)


@named
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"^q: on cpu, wants a CUDA device \(backend '\w+'\); served here by: reference, torch$"),
        ({"past": 3}, r"^k: 27 positions for 24 queries, wants as many"),
        ({"key_dim": 20}, r"^q: K is 20, wants a multiple of 8"),
    ],
)
def test_a_refusal_names_the_argument_and_who_serves_it(impl, changes, message, machine):
    x = testing.inputs("attention", Case(**{**vars(CASE), **changes}), dtype=torch.bfloat16)
    with pytest.raises(BackendRefusal, match=message):
        attention(**x, scale=0.5, impl=impl)


class OnGpu(torch.Tensor):
    """A tensor that says it lies on a GPU."""

    is_cuda = True


def test_pytorchs_own_reasons_are_passed_on():
    def serves(call, debug):
        assert (call.is_causal, call.enable_gqa) == (True, True)
        if debug:
            warnings.warn("Head dim 16 is unlucky. (Triggered internally at sdp_utils.cpp:1.)", stacklevel=1)
        return False

    x = testing.inputs("attention", CASE, dtype=torch.bfloat16)
    assert fused.refusal(serves, *(t.as_subclass(OnGpu) for t in x.values())) == "q, k, v: Head dim 16 is unlucky."
    assert fused.refusal(lambda call, debug: True, *(t.as_subclass(OnGpu) for t in x.values())) is None
    wide = [t.float().as_subclass(OnGpu) for t in x.values()]
    assert fused.refusal(serves, *wide) == "q: torch.float32, wants bfloat16 or float16"


@named
def test_the_compiler_finds_one_operator(impl, machine, monkeypatch):
    """On the meta device, where shapes and gradients are traced without a GPU."""
    monkeypatch.setattr(fused, "refusal", lambda *arguments: None)
    x = testing.inputs("attention", CASE, dtype=torch.bfloat16, device="meta")
    x = {name: t.requires_grad_() for name, t in x.items()}
    called = []

    def graph(module, inputs):
        called.extend(str(node.target) for node in module.graph.nodes if node.op == "call_function")
        return module.forward

    backends.load("attention", impl)
    output = torch.compile(lambda x: attention(**x, scale=0.5, impl=impl), fullgraph=True, backend=graph)(x)
    assert output.shape == x["q"].shape
    assert sum("attention" in name for name in called) == 1
    (name,) = (name for name in called if "attention" in name)
    assert f"_scaled_dot_product_{impl}_attention" in name
    compiled = torch.compile(lambda x: attention(**x, scale=0.5, impl=impl), fullgraph=True, backend="aot_eager")
    gradients = torch.autograd.grad(compiled(x).sum(), list(x.values()))
    assert [d.shape for d in gradients] == [t.shape for t in x.values()]


def test_autocast_reaches_the_operator(monkeypatch):
    x = testing.inputs("attention", CASE, dtype=torch.float32)
    assert {view.dtype for view in fused.arguments(**x)} == {torch.float32}
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", {"cuda": torch.bfloat16}.get)
    views = fused.arguments(**x)
    assert {view.dtype for view in views} == {torch.bfloat16}
    assert views[0].shape == (2, 4, 24, 16)
