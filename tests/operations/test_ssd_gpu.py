"""The kernels of Mamba-2's SSD on a GPU, against float64: shapes, types, regimes, repeatability, graphs, compilation.

The float64 side is the chunked form in plain PyTorch on the same GPU, which `test_chunked_forms.py` holds to the
recurrence. What takes long here is compiling; ``-n 8`` spreads that over processes.
"""

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.ssd import ssd
from gdnbench_kernels.testing import Case

from tests.operations import layouts
from tests.operations.agreement import disagreements, draw_ssd, exact, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"),
]

BF16, F16 = torch.bfloat16, torch.float16
# Mamba-2's own (128, 64) first; then wider, narrower and odd ones.
DIMS = [(128, 64), (64, 64), (128, 128), (256, 64), (16, 32), (64, 32), (96, 80), (40, 24)]
FEWER = DIMS[:5]  # again in float16, and in plain Triton where Gluon is what ships
TIMES = [1, 63, 64, 65, 1000]
REPEATS = 20


@pytest.fixture(params=["shipped", "plain"])
def version(request):
    """Run what the package chooses on this GPU, or the plain Triton version of every kernel."""
    from gdnbench_kernels.gated_delta.gpu import choice

    if request.param == "shipped":
        yield
    elif torch.cuda.get_device_capability() == (9, 0):
        with choice.plain():
            yield
    else:
        pytest.skip("plain Triton is what runs on this GPU anyway")


def case_of(dims=(128, 64), **changes):
    return Case(
        **{"batch": 2, "time": 1000, "heads": 1, "group": 8, "key_dim": dims[0], "value_dim": dims[1], **changes}
    )


def mismatches(call, dtype=BF16, **options):
    through = {name: value for name, value in options.items() if name == "through"}
    return disagreements(run(call, **options), exact(call, impl="torch", device="cuda", **through), dtype)


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize(
    ("dims", "dtype", "version"),
    [
        *[(dims, BF16, "shipped") for dims in DIMS],
        *[(dims, F16, "shipped") for dims in FEWER],
        *[(dims, BF16, "plain") for dims in FEWER],
    ],
    indirect=["version"],
    ids=str,
)
def test_every_shape(dims, dtype, time):
    assert mismatches(draw_ssd(case_of(dims, time=time), dtype, device="cuda"), dtype) == {}


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize("keys", testing.KEYS)
@pytest.mark.parametrize("decay", testing.DECAYS)
def test_every_regime(decay, keys):
    assert mismatches(draw_ssd(case_of(decay=decay, keys=keys), BF16, device="cuda")) == {}


@pytest.mark.parametrize("decay", ["none", "default", "strong"])
def test_the_size_of_a_model(decay):
    call = draw_ssd(case_of(batch=4, time=2048, group=24, decay=decay, state=False), BF16, device="cuda")
    assert mismatches(call) == {}


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize(("batch", "heads", "group"), [(1, 1, 1), (1, 3, 1), (3, 2, 5), (1, 1, 24), (16, 1, 12)])
def test_heads_and_groups(batch, heads, group):
    """From one program by head to all heads of a group in one program."""
    call = draw_ssd(
        case_of(batch=batch, time=2000 if batch > 8 else 130, heads=heads, group=group), BF16, device="cuda"
    )
    assert mismatches(call) == {}


def test_one_token_that_forgets_everything():
    call = draw_ssd(case_of(decay="none"), BF16, device="cuda")
    call.tensors["g"][0, 700] = -1e4
    assert mismatches(call) == {}


@pytest.mark.parametrize("through", ["output", "state"])
@pytest.mark.parametrize("state", [True, False])
def test_gradients_of_one_result_alone(state, through):
    assert mismatches(draw_ssd(case_of(time=200, state=state), BF16, device="cuda"), through=(through,)) == {}


@pytest.mark.parametrize("laid_out", layouts.ALL)
def test_strides(laid_out):
    call = draw_ssd(case_of(time=200), BF16, device="cuda")
    assert not laid_out(call.tensors)["x"].is_contiguous()
    assert mismatches(call, laid_out=laid_out) == {}


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize("dims", [(128, 64), (256, 64)], ids=str)
def test_every_run_gives_the_same_bits(dims):
    call = draw_ssd(case_of(dims, batch=8, group=24), BF16, device="cuda")
    first = run(call)
    for _ in range(REPEATS):
        again = run(call)
        assert [name for name in first if not torch.equal(first[name], again[name])] == []


def test_forward_and_backward_in_a_cuda_graph():
    call, other = (draw_ssd(case_of(), BF16, device="cuda", seed=seed) for seed in (0, 1))
    leaves = {name: x.clone().requires_grad_() for name, x in call.tensors.items()}
    weights = torch.ones_like(leaves["x"]), torch.ones_like(leaves["initial_state"])

    def step():
        results = ssd(**leaves, output_final_state=True, impl="triton")
        return [*(x.detach() for x in results), *torch.autograd.grad(results, list(leaves.values()), weights)]

    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    for tensors in (call.tensors, other.tensors):
        with torch.no_grad():
            for name, x in leaves.items():
                x.copy_(tensors[name])
        graph.replay()
        assert all(map(torch.equal, found, step()))


def test_a_compiled_call_equals_the_call():
    """With operations around it that are fused, and without a graph break."""
    x = {name: t.requires_grad_() for name, t in draw_ssd(case_of(time=200), BF16, device="cuda").tensors.items()}

    def layer(c, b, x, g, dt, initial_state):
        settings = {"initial_state": initial_state, "output_final_state": True, "impl": "triton"}
        output, state = ssd(c * 2, b, x + 1, 2 * g, dt, **settings)
        return output * output, state

    def results(form):
        output, state = form(**x)
        return [output, state, *torch.autograd.grad(output.float().sum() + state.sum(), list(x.values()))]

    for eager, traced in zip(results(layer), results(torch.compile(layer, fullgraph=True)), strict=True):
        assert testing.relative_error(traced, eager.double()) < 2e-2
