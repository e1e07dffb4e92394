"""flash-linear-attention's KDA kernels behind the switch, against a stand-in of its two passes."""

import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
import torch
from gdnbench_kernels import backends, chunks, fla, requirements, testing
from gdnbench_kernels.backends import BackendRefusal
from gdnbench_kernels.kda import kda
from gdnbench_kernels.testing import Case

CASE = Case(batch=2, time=70, heads=2, key_dim=16, value_dim=16)


def chunk_kda_fwd(*, q, k, v, g, beta, scale, initial_state, output_final_state):
    """fla-core 0.6.0, fla/ops/kda/chunk_fwd.py: what it takes and returns (the first five of twelve)."""
    assert output_final_state
    assert all(x.is_contiguous() for x in (q, k, v, g, beta))
    assert q.dtype == k.dtype == v.dtype
    assert g.dtype == beta.dtype == torch.float32
    output, state = kda(q, k, v, g, beta, scale=scale, initial_state=initial_state, output_final_state=True)
    cumulative = chunks.join(chunks.split(g, 64).cumsum(-2), g.shape[1])
    matrices = [q.new_zeros(*q.shape[:3], 64) for _ in range(2)]
    return output.contiguous(), state.contiguous(), cumulative.contiguous(), *matrices, *[None] * 7


def chunk_kda_bwd(*, q, k, v, beta, Aqk, Akk, scale, initial_state, do, dht, g):
    """fla-core 0.6.0, fla/ops/kda/chunk_bwd.py: g is cumulative inside chunks of 64; two of eight results are None."""
    assert Aqk.shape == Akk.shape == (*q.shape[:3], 64)
    assert do.is_contiguous()
    blocks = chunks.split(g, 64)
    before = torch.cat([torch.zeros_like(blocks[..., :1, :]), blocks[..., :-1, :]], -2)
    log_decay = chunks.join(blocks - before, g.shape[1])
    # In a thread of its own: an operator's body runs below autograd.
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(gradients, (q, k, v, beta, log_decay, initial_state), scale, do, dht).result()
    return *found, None, None


def gradients(given, scale, do, dht):
    leaves = [None if x is None else x.detach().requires_grad_() for x in given]
    q, k, v, beta, g, initial = leaves
    results = kda(q, k, v, g, beta, scale=scale, initial_state=initial, output_final_state=True)
    wanted = [x for x in leaves if x is not None]
    through = [(x, d) for x, d in zip(results, (do, dht), strict=True) if d is not None]
    found = torch.autograd.grad([x for x, _ in through], wanted, [d for _, d in through], materialize_grads=True)
    return *(x.contiguous() for x in found), *[None] * (6 - len(found))


@pytest.fixture
def installed(monkeypatch):
    """The library as if installed, on a machine with a GPU; float32 on a CPU is let through for exact comparison."""
    from gdnbench_kernels.kda.impl import fla as backend

    for name in ("fla", "fla.ops", "fla.ops.kda", "fla.ops.kda.chunk_fwd", "fla.ops.kda.chunk_bwd"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["fla.ops.kda.chunk_fwd"].chunk_kda_fwd = chunk_kda_fwd
    sys.modules["fla.ops.kda.chunk_bwd"].chunk_kda_bwd = chunk_kda_bwd
    monkeypatch.setattr(requirements, "version", lambda distribution: "0.6.0")
    monkeypatch.setattr(requirements, "missing", lambda *args, **wants: None)
    monkeypatch.setattr(backends, "_resolved", set())
    monkeypatch.setattr(backend, "refuses", lambda *tensors: None)
    fla.pin.cache_clear()
    yield backend
    fla.pin.cache_clear()


@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize("through", [("output", "state"), ("output",), ("state",)])
def test_values_and_gradients_pass_its_two_halves(state, through, installed):
    x = testing.inputs("kda", Case(**{**vars(CASE), "state": state}), dtype=torch.float32)
    actual = testing.run_with_gradients("kda", x, impl="fla", through=through)
    assert not testing.over_budget(actual, testing.oracle("kda", x, through=through), torch.float32)


def test_it_is_one_operator_to_the_compiler(installed):
    x = {name: t.requires_grad_() for name, t in testing.inputs("kda", CASE, dtype=torch.float32).items()}

    def loss(x):
        output, state = kda(**x, output_final_state=True, impl="fla")
        return output.square().sum() + state.sum()

    kda(**x, impl="fla")  # resolves the backend
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for one, other in zip(*(torch.autograd.grad(f(x), list(x.values())) for f in (compiled, loss)), strict=True):
        torch.testing.assert_close(one, other)


def test_its_operators_keep_the_rules_of_pytorch(installed):
    x = [t.requires_grad_() for t in testing.inputs("kda", CASE, dtype=torch.float32).values()]
    torch.library.opcheck(installed._forward, (*x[:5], x[5], 0.5))


def test_what_it_refuses(monkeypatch):
    x = testing.inputs("kda", Case(batch=1, time=2, heads=1, key_dim=264, value_dim=16), dtype=torch.float32)
    monkeypatch.setattr(requirements, "version", lambda distribution: "0.6.0")
    monkeypatch.setattr(requirements, "missing", lambda *args, **wants: None)
    monkeypatch.setattr(backends, "_resolved", set())
    with pytest.raises(BackendRefusal, match=r"^q: K is 264, wants at most 256 \(backend .fla.\); .*: ref"):
        kda(**x, impl="fla")
    with pytest.raises(BackendRefusal, match=r"^q: on cpu, wants a CUDA device"):
        kda(**testing.inputs("kda", CASE, dtype=torch.float32), impl="fla")
