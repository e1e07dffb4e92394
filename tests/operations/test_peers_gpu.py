"""Other libraries' kernels that models may run on, on a GPU: RWKV-7's, KDA's (flash-linear-attention), attention.

Against float64 by our definitions, in one graph of the compiler, and in a CUDA graph.
"""

import pytest
import torch
from gdnbench_kernels import backends, testing
from gdnbench_kernels.attention import attention
from gdnbench_kernels.backends import BackendRefusal
from gdnbench_kernels.kda import kda
from gdnbench_kernels.testing import Case
from gdnbench_kernels.wkv7 import wkv7

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"),
]

BF16 = torch.bfloat16
CALLS = [("wkv7", "fla"), ("kda", "fla"), ("attention", "flash"), ("attention", "cudnn")]
OPERATIONS = {"wkv7": wkv7, "kda": kda, "attention": attention}
call = pytest.mark.parametrize(("operation", "impl"), CALLS)


@pytest.fixture(autouse=True)
def installed(request):
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    reason = backends.why_unavailable(params.get("operation", "wkv7"), params.get("impl", "fla"))
    if reason:
        pytest.skip(reason)


def case_of(operation, **changes):
    group = {"group": 2} if operation == "attention" else {}
    return Case(**{"batch": 2, "time": 200, "heads": 4, **group, "key_dim": 64, "value_dim": 64, **changes})


def check(operation, impl, case, dtype=BF16):
    x = testing.inputs(operation, case, dtype=dtype, device="cuda", draw_on="cuda")
    actual = testing.run_with_gradients(operation, x, impl=impl)
    expected = testing.oracle(operation, x, impl="torch", device="cuda")
    assert not testing.over_budget(actual, expected, dtype)


@call
@pytest.mark.parametrize("time", [1, 65, 200, 1000])
def test_lengths(operation, impl, time):
    if (impl, time) == ("cudnn", 1):
        with pytest.raises(backends.BackendRefusal, match=r"served here by: flash"):
            check(operation, impl, case_of(operation, time=time))
    else:
        check(operation, impl, case_of(operation, time=time))


@pytest.mark.parametrize("decay", ["none", "strong"])
@pytest.mark.parametrize("keys", ["random", "correlated"])
@pytest.mark.parametrize("operation", ["wkv7", "kda"])
def test_decays_and_keys(operation, decay, keys):
    check(operation, "fla", case_of(operation, decay=decay, keys=keys))


def test_kda_serves_strengths_up_to_2():
    check("kda", "fla", case_of("kda", beta=2.0))


@call
def test_without_a_state_or_groups_and_in_float16(operation, impl):
    check(operation, impl, case_of(operation, state=False, **({"group": 1} if operation == "attention" else {})))
    check(operation, impl, case_of(operation), torch.float16)


@call
def test_head_dim_128(operation, impl):
    check(operation, impl, case_of(operation, key_dim=128, value_dim=128))


def one_call(operation, impl, x):
    settings = {"scale": 0.125} if operation == "attention" else {"output_final_state": True}
    found = OPERATIONS[operation](**x, **settings, impl=impl)
    return (found,) if operation == "attention" else found


def loss(operation, impl, x):
    return sum(y.float().square().sum() for y in one_call(operation, impl, x))


@call
def test_it_is_one_graph_to_the_compiler(operation, impl):
    x = testing.inputs(operation, case_of(operation), dtype=BF16, device="cuda", draw_on="cuda")
    x = {name: t.requires_grad_() for name, t in x.items()}
    compiled = torch.compile(loss, fullgraph=True)
    found, expected = (torch.autograd.grad(f(operation, impl, x), list(x.values())) for f in (compiled, loss))
    for name, one, other in zip(x, found, expected):
        assert testing.relative_error(one, other) < 2e-2, name


@call
def test_it_can_be_captured_in_a_cuda_graph(operation, impl):
    x = testing.inputs(operation, case_of(operation), dtype=BF16, device="cuda", draw_on="cuda")
    x = {name: t.requires_grad_() for name, t in x.items()}
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        expected = torch.autograd.grad(loss(operation, impl, x), list(x.values()))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            found = torch.autograd.grad(loss(operation, impl, x), list(x.values()))
    torch.cuda.current_stream().wait_stream(stream)
    graph.replay()
    torch.cuda.synchronize()
    for name, one, other in zip(x, found, expected):
        assert testing.relative_error(one, other) < 1e-2, name


@pytest.mark.parametrize(("operation", "impl"), CALLS[2:])
def test_what_a_kernel_does_not_serve_is_refused_and_not_run_by_another(operation, impl):
    x = testing.inputs(operation, case_of(operation, key_dim=512, value_dim=512), dtype=BF16, device="cuda")
    with pytest.raises(BackendRefusal, match=rf"\(backend '{impl}'\); served here by: .*torch"):
        attention(**x, scale=0.5, impl=impl)
    x = testing.inputs(operation, case_of(operation), dtype=torch.float32, device="cuda")
    with pytest.raises(BackendRefusal, match=r"^q: torch.float32, wants"):
        attention(**x, scale=0.5, impl=impl)


@pytest.mark.parametrize(("operation", "impl"), CALLS[2:])
def test_one_query_sees_all_keys_before_it(operation, impl):
    check(operation, impl, case_of(operation, time=1, past=70))
