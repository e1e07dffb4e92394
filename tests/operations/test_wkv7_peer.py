"""flash-linear-attention's RWKV-7 kernels behind the switch, against a stand-in of its autograd function."""

import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from types import ModuleType, SimpleNamespace

import pytest
import torch
from gdnbench_kernels import backends, fla, requirements, testing
from gdnbench_kernels.backends import BackendRefusal
from gdnbench_kernels.testing import Case
from gdnbench_kernels.wkv7 import wkv7

CASE = Case(batch=2, time=70, heads=2, key_dim=16, value_dim=16)


class ChunkDPLRDeltaRuleFunction(torch.autograd.Function):
    """fla-core 0.6.0, fla/ops/generalized_delta_rule/dplr/chunk.py: what its halves take, leave and return."""

    @staticmethod
    def forward(
        ctx, q, k, v, a, b, gk, scale, initial_state, output_final_state, cu_seqlens=None, cu_seqlens_cpu=None,
        safe_gate=False, lower_bound=None, chunk_size=None, disable_recompute=False, cp_context=None,
    ):  # fmt: skip
        assert (scale, safe_gate, chunk_size, output_final_state) == (1.0, True, 64, True)
        assert all(x.is_contiguous() and x.dtype == q.dtype for x in (q, k, v, a, b))
        assert initial_state is None or initial_state.dtype == torch.float32
        ctx.save_for_backward(q, k, v, a, b, gk, initial_state)
        ctx.cu_seqlens, ctx.scale, ctx.chunk_size, ctx.chunk_indices = cu_seqlens, scale, chunk_size, None
        ctx.safe_gate, ctx.disable_recompute, ctx.cp_context = safe_gate, disable_recompute, cp_context
        output, state = wkv7(q, gk, k, v, a, b, initial_state=initial_state, output_final_state=True)
        return output.to(q.dtype).contiguous(), state.contiguous()

    @staticmethod
    def backward(ctx, do, dht):
        assert not ctx.disable_recompute
        assert ctx.cu_seqlens is ctx.chunk_indices is ctx.cp_context is None
        assert (ctx.scale, ctx.chunk_size, ctx.safe_gate) == (1.0, 64, True)
        # What torch.amp.custom_bwd reads.
        assert ctx._fwd_used_autocast is False
        assert ctx._dtype == do.dtype
        # In a thread of its own: an operator's body runs below autograd.
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(gradients, ctx.saved_tensors, do, dht).result()
        return *found[:6], None, found[6], *[None] * 8


def gradients(saved, do, dht):
    tensors = [None if x is None else x.detach().requires_grad_() for x in saved]
    q, k, v, a, b, gk, initial = tensors
    results = wkv7(q, gk, k, v, a, b, initial_state=initial, output_final_state=True)
    wanted = [x for x in tensors if x is not None]
    given = [(x, d) for x, d in zip(results, (do, dht)) if d is not None]
    found = torch.autograd.grad([x for x, _ in given], wanted, [d for _, d in given], materialize_grads=True)
    return *(x.contiguous() for x in found), *[None] * (7 - len(found))


@pytest.fixture
def installed(monkeypatch):
    """The library as if installed, on a machine with a GPU; float32 on a CPU is let through for exact comparison."""
    from gdnbench_kernels.wkv7.impl import fla as backend

    path = "fla.ops.generalized_delta_rule.dplr.chunk"
    for name in (path, *backend.MODULES):
        parts = name.split(".")
        for made in (".".join(parts[:i]) for i in range(1, len(parts) + 1)):
            monkeypatch.setitem(sys.modules, made, sys.modules.get(made) or ModuleType(made))
        sys.modules[name].kernel = SimpleNamespace(fn=SimpleNamespace(configs=configurations()))
    sys.modules["fla"].backends = SimpleNamespace()
    sys.modules[path].ChunkDPLRDeltaRuleFunction = ChunkDPLRDeltaRuleFunction
    monkeypatch.setattr(requirements, "version", lambda distribution: "0.6.0")
    monkeypatch.setattr(requirements, "missing", lambda *args, **wants: None)
    monkeypatch.setattr(backends, "_resolved", set())
    monkeypatch.setattr(backend, "refuses", lambda *tensors: None)
    fla.pin.cache_clear()
    backend._narrowed.cache_clear()
    yield backend
    fla.pin.cache_clear()
    backend._narrowed.cache_clear()


def configurations():
    """What a kernel of its lists: blocks, warps and stages, each with each."""
    return [
        SimpleNamespace(kwargs={"BK": block}, num_warps=warps, num_stages=stages)
        for block, warps, stages in product((32, 64, 128), (2, 4, 8, 16, 32), (2, 3, 4))
    ]


def test_its_kernels_are_tuned_over_few_configurations(installed):
    x = testing.inputs("wkv7", CASE, dtype=torch.float32)
    wkv7(**x, impl="fla")
    for name in installed.MODULES:
        left = [(c.kwargs["BK"], c.num_warps, c.num_stages) for c in sys.modules[name].kernel.fn.configs]
        assert left == [(64, warps, 3) for warps in (2, 4, 8)]
    assert installed.what_ran()["configurations"] == f"{3 * len(installed.MODULES)} of {45 * len(installed.MODULES)}"


def test_a_kernel_without_such_configurations_keeps_all_of_its_own():
    only = [SimpleNamespace(kwargs={"BK": 16}, num_warps=16, num_stages=2)]
    kernel, plain = SimpleNamespace(configs=only), SimpleNamespace(fn=print)
    assert fla.narrow({"kernel": kernel, "plain": plain, "constant": 64}) == (1, 1)
    assert kernel.configs == only


@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize("through", [("output", "state"), ("output",), ("state",)])
def test_values_and_gradients_pass_its_two_halves(state, through, installed):
    x = testing.inputs("wkv7", Case(**{**vars(CASE), "state": state}), dtype=torch.float32)
    actual = testing.run_with_gradients("wkv7", x, impl="fla", through=through)
    expected = testing.oracle("wkv7", x, through=through)
    assert not testing.over_budget(actual, expected, torch.float32)


def test_strided_arguments_and_types_that_autocast_leaves_mixed(installed):
    x = testing.inputs("wkv7", CASE, dtype=torch.float32)
    x["r"] = x["r"].bfloat16().transpose(1, 2).contiguous().transpose(1, 2)
    output, state = wkv7(**x, output_final_state=True, impl="fla")
    assert output.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    expected, _ = wkv7(**x, output_final_state=True)
    assert testing.relative_error(output, expected) < 2e-2
    assert wkv7(**x, impl="fla")[1] is None


def test_it_is_one_operator_to_the_compiler(installed):
    """Also where autograd is traced: no break in the graph, and the gradients are those of the eager call."""
    x = {name: t.requires_grad_() for name, t in testing.inputs("wkv7", CASE, dtype=torch.float32).items()}

    def loss(x):
        output, state = wkv7(**x, output_final_state=True, impl="fla")
        return output.square().sum() + state.sum()

    wkv7(**x, impl="fla")  # resolves the backend
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for one, other in zip(*(torch.autograd.grad(f(x), list(x.values())) for f in (compiled, loss)), strict=True):
        torch.testing.assert_close(one, other)


def test_its_operators_keep_the_rules_of_pytorch(installed):
    x = [t.requires_grad_() for t in testing.inputs("wkv7", CASE, dtype=torch.float32).values()]
    torch.library.opcheck(installed._forward, (*x[:6], x[6]))
    torch.library.opcheck(installed._forward, (*x[:6], None))


def test_what_it_refuses(monkeypatch):
    x = testing.inputs("wkv7", Case(batch=1, time=2, heads=1, key_dim=264, value_dim=16), dtype=torch.float32)
    monkeypatch.setattr(requirements, "version", lambda distribution: "0.6.0")
    monkeypatch.setattr(requirements, "missing", lambda *args, **wants: None)
    monkeypatch.setattr(backends, "_resolved", set())
    with pytest.raises(BackendRefusal, match=r"^r: K is 264, wants at most 256 \(backend .fla.\); .*: ref"):
        wkv7(**x, impl="fla")
    x = testing.inputs("wkv7", CASE, dtype=torch.float32)
    with pytest.raises(BackendRefusal, match=r"^r: on cpu, wants a CUDA device"):
        wkv7(**x, impl="fla")


@pytest.mark.parametrize(("version", "message"), [("0.7.1", "inner functions may have changed"), ("0.6.3", None)])
def test_another_release_is_not_trusted(version, message, monkeypatch):
    monkeypatch.setattr(requirements, "version", lambda distribution: version)
    monkeypatch.setattr(requirements, "missing", lambda *args, **wants: None)
    reason = backends.why_unavailable("wkv7", "fla")
    assert reason is None if message is None else message in reason
