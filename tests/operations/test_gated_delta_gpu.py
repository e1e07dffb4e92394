"""The chunked kernels of the gated delta rule on a GPU, against float64: the whole matrix of shapes, types and regimes.

The float64 side is the chunked form in plain PyTorch on the same GPU, which `test_chunked_forms.py` holds to the
recurrence. What takes long here is compiling; ``-n 8`` spreads that over processes.
"""

import itertools
import math

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.gated_delta import gated_delta_rule
from gdnbench_kernels.testing import Case

from tests.operations import layouts
from tests.operations.agreement import RAW, allowance, disagreements, draw, exact, run
from tests.operations.layer import Layer, forward_and_backward

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"),
]

BF16, F16 = torch.bfloat16, torch.float16
# 16 value heads: strides are then multiples of 16 at every length, and a kernel is compiled once for all of them.
HEADS = {"heads": 8, "group": 2}
# (16, 16) to (256, 512): the paper's widths, the peers' 128, and dims that are no powers of two.
DIMS = [
    *[(16, 16), (32, 64), (40, 96), (64, 64), (64, 128)],
    *[(96, 192), (128, 128), (128, 256), (192, 384), (256, 512)],
]
# What runs again in float16, and in plain Triton where Gluon is what ships.
FEWER = [(32, 64), (64, 128), (96, 192), (128, 128), (256, 512)]
TIMES = [1, 63, 64, 65, 1000, 4096]
PACKED = [1, 0, 63, 64, 65, 700, 0]


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


@pytest.fixture
def uncut(monkeypatch):
    """Cut no sequence into pieces, which are further kernels: tests of their own have them."""
    from gdnbench_kernels.gated_delta.gpu import segments

    monkeypatch.setattr(segments, "FULL", 1)


def case_of(dims, **changes):
    return Case(**{"batch": 1, "time": 1000, **HEADS, "key_dim": dims[0], "value_dim": dims[1], **changes})


def mismatches(call, dtype, slack=1.0, **options):
    through = {name: value for name, value in options.items() if name == "through"}
    return disagreements(run(call, **options), exact(call, impl="torch", device="cuda", **through), dtype, slack=slack)


@pytest.mark.usefixtures("version", "uncut")
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
    call = draw(case_of(dims, time=time), dtype, raw=RAW, device="cuda")
    # A gate's gradient is a difference of sums over K: with 16 terms, rounding averages out less (up to 0.03 was seen).
    assert mismatches(call, dtype, max(1.0, 32 / dims[0])) == {}


@pytest.mark.usefixtures("version", "uncut")
@pytest.mark.parametrize("beta", [None, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("keys", testing.KEYS)
@pytest.mark.parametrize("decay", testing.DECAYS)
def test_every_regime(decay, keys, beta):
    case = case_of((64, 128), decay=decay, keys=keys, beta=beta)
    if (decay, keys, beta) == ("none", "repeated", 2.0):
        pytest.skip("no half precision serves it (`allowance`); float32 does, under the interpreter")
    dtype, slack = BF16, allowance(case)
    if keys == "repeated" and beta == 2:
        # With little decay, bfloat16 has no digits left here (gradients off by 0.5 to 0.8); float16 has 3 bits more.
        dtype, slack = F16, 4 * slack
    assert mismatches(draw(case, dtype, device="cuda"), dtype, slack) == {}


@pytest.mark.usefixtures("version", "uncut")
@pytest.mark.parametrize("dims", [(32, 64), (64, 128), (96, 192), (128, 128), (256, 512)], ids=str)
def test_strong_decay_with_norms(dims):
    """A decay's gradient is small then, and a token's own terms in it, which are not, must cancel."""
    call = draw(case_of(dims, decay="strong"), BF16, raw=["norm"], device="cuda")
    assert mismatches(call, BF16, max(1.0, 32 / dims[0])) == {}


@pytest.mark.usefixtures("uncut")
def test_one_token_that_forgets_everything():
    call = draw(case_of((64, 128), decay="none"), BF16, device="cuda")
    call.tensors["g"][0, 700] = -1e4
    assert mismatches(call, BF16) == {}


@pytest.mark.usefixtures("uncut")
@pytest.mark.parametrize("raw", [(one,) for one in RAW], ids="".join)
def test_each_fusion_by_itself(raw):
    assert mismatches(draw(case_of((64, 128)), BF16, raw=raw, device="cuda"), BF16) == {}


@pytest.mark.usefixtures("uncut")
@pytest.mark.parametrize("dtype", [BF16, F16])
@pytest.mark.parametrize("key_dim", [64, 256])
def test_zero_rows(key_dim, dtype):
    call = draw(case_of((key_dim, 128)), dtype, raw=RAW, device="cuda")
    for name, token in (("q", 3), ("q", 65), ("k", 5), ("k", 64), ("k", 65)):
        call.tensors[name][:, token] = 0
    actual, expected = run(call), exact(call, impl="torch", device="cuda")
    for name, own in (("d_q", call.tensors["q"]), ("d_k", call.tensors["k"])):
        rows = (own == 0).all(-1)
        assert rows.any()
        for part in (rows, ~rows):  # a zero row's gradient dwarfs the others: the norm's slope there is 1000
            assert testing.relative_error(actual[name][part], expected[name][part]) < 2e-2, name


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize(
    ("dims", "state", "version"),
    [
        *[((64, 128), True, version) for version in ("shipped", "plain")],
        *[((64, 128), False, "shipped"), ((256, 512), True, "shipped")],
    ],
    indirect=["version"],
    ids=str,
)
def test_packed_sequences(dims, state):
    call = draw(case_of(dims, state=state), BF16, lengths=PACKED, raw=RAW, device="cuda")
    assert mismatches(call, BF16) == {}


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize("decay", ["none", "default", "strong"])
@pytest.mark.parametrize(
    ("dims", "lengths", "version"),
    [
        *[((64, 128), None, version) for version in ("shipped", "plain")],
        *[((128, 128), lengths, "shipped") for lengths in (None, [100, 0, 8092])],
    ],
    indirect=["version"],
    ids=str,
)
def test_pieces_of_a_long_sequence(dims, lengths, decay, monkeypatch):
    from gdnbench_kernels.gated_delta.gpu import segments

    pieces, chain = [], segments.chain

    def counted(layout, count, **rest):
        pieces.append(count)
        chain(layout, count, **rest)

    monkeypatch.setattr(segments, "chain", counted)
    call = draw(case_of(dims, time=8192, decay=decay), BF16, lengths=lengths, raw=["beta"], device="cuda")
    # Where nothing is forgotten, beta up to 2 carries every rounding over 8192 tokens.
    assert mismatches(call, BF16, 4.0 if decay == "none" else 1.0) == {}
    assert len(pieces) == 2, "or this test has tested nothing"
    assert min(pieces) > 1


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize("grows", [True, False])
def test_how_far_into_a_piece_its_ends_reach(grows, monkeypatch):
    from gdnbench_kernels.gated_delta.gpu import segments

    monkeypatch.setattr(segments, "pieces_per_sequence", lambda layout: 2)
    x = draw(case_of((64, 128), time=256, keys="repeated", beta=1.0), BF16, device="cuda").tensors
    x["g"].fill_(-1.2)
    if grows:
        # A token turns what lies along its key by 1 - k^2 = -e^1.2, as much as decay takes: there nothing fades.
        x["k"].mul_((1 + math.exp(1.2)) ** 0.5)
    arguments = [x[name] for name in ("q", "k", "v", "g", "beta")]
    *_, lengths = torch.ops.gdnbench.gated_delta_forward(
        *arguments, None, None, x["initial_state"], None, 1.0, 1.0, None, False, True
    )
    assert lengths.unique().tolist() == [2 if grows else 1]


@pytest.mark.parametrize("through", ["output", "state"])
@pytest.mark.parametrize("state", [True, False])
def test_gradients_of_one_result_alone(state, through):
    call = draw(case_of((64, 128), time=200, state=state), BF16, raw=RAW, device="cuda")
    assert mismatches(call, BF16, through=(through,)) == {}


@pytest.mark.parametrize("laid_out", layouts.ALL)
def test_strides(laid_out):
    call = draw(case_of((64, 128), batch=2, time=200), BF16, raw=RAW, device="cuda")
    assert not laid_out(call.tensors)["v"].is_contiguous()
    assert mismatches(call, BF16, laid_out=laid_out) == {}


@pytest.mark.parametrize(("heads", "group"), [(1, 1), (3, 2)])
def test_few_and_odd_heads(heads, group):
    call = draw(case_of((64, 128), batch=3, time=130, heads=heads, group=group), BF16, raw=["norm"], device="cuda")
    assert mismatches(call, BF16) == {}


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize(("dims", "time"), [((64, 128), 1000), ((128, 128), 8192), ((256, 512), 1000)], ids=str)
def test_every_run_gives_the_same_bits(dims, time):
    call = draw(case_of(dims, time=time), BF16, raw=RAW, device="cuda")
    first = run(call)
    for _ in range(20):
        again = run(call)
        assert [name for name in first if not torch.equal(first[name], again[name])] == []


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("dims", [(64, 64), (128, 128)], ids=str)
def test_four_warps_and_chunks_of_64_compile_to_right_gradients(dims, stages, monkeypatch):
    """What Triton 3.4 to 3.7.0 got wrong on Hopper (flash-linear-attention issues 640 and 984): dk, dbeta and dg."""
    from gdnbench_kernels.gated_delta.gpu import choice, gradients

    chosen = {"BK": 64, "VB": 64, "STAGES": stages, "num_warps": 4, "num_stages": stages}
    monkeypatch.setattr(gradients, "configuration", lambda *known, **facts: dict(chosen))
    with choice.plain():
        for raw, seed in itertools.product([(), ("norm", "beta")], range(4)):
            call = draw(case_of(dims), BF16, raw=raw, device="cuda", seed=seed)
            assert mismatches(call, BF16) == {}


def test_offsets_beyond_32_bits():
    # Saved states alone are 20 * 64 * 16 * 256 * 512 = 2.7e9 numbers. A sequence does not know of the others.
    call = draw(case_of((256, 512), batch=20, time=4096, state=False), BF16, raw=["norm"], device="cuda")
    last = {name: x[-1:] for name, x in call.tensors.items()}

    def outputs_and_gradients(tensors):
        leaves = {name: x.clone().requires_grad_() for name, x in tensors.items()}
        output, _ = gated_delta_rule(**leaves, **call.settings, impl="triton")
        return [output.detach(), *torch.autograd.grad(output, list(leaves.values()), leaves["v"].detach())]

    for whole, alone in zip(outputs_and_gradients(call.tensors), outputs_and_gradients(last), strict=True):
        # Not the same bits: how many programs there are may decide how wide they are.
        assert testing.relative_error(whole[-1:], alone.double()) < testing.limit("output", BF16)


@pytest.mark.parametrize("lengths", [None, PACKED], ids=["dense", "packed"])
def test_forward_and_backward_in_a_cuda_graph(lengths):
    call, other = (draw(case_of((64, 128)), BF16, lengths=lengths, raw=RAW, device="cuda", seed=s) for s in (0, 1))
    leaves = {name: x.clone().requires_grad_() for name, x in call.tensors.items()}
    weights = torch.ones_like(leaves["v"]), torch.ones_like(leaves["initial_state"])

    def step():
        results = gated_delta_rule(**leaves, **call.settings, output_final_state=True, impl="triton")
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


@pytest.mark.parametrize("raw", [False, True])
def test_a_compiled_layer_equals_the_layer(raw):
    torch.manual_seed(0)
    layer = Layer(heads=2, group=2, key_dim=64, value_dim=128, raw=raw).to("cuda", BF16)
    if raw:
        layer.A_log.data, layer.dt_bias.data = layer.A_log.data.float(), layer.dt_bias.data.float()
    x = torch.randn(2, 200, 32, device="cuda", dtype=BF16, requires_grad=True)
    state = torch.randn(2, 4, 64, 128, device="cuda", requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True)
    for eager, traced in zip(*(forward_and_backward(form, x, state) for form in (layer, compiled)), strict=True):
        # What is fused around the rule rounds elsewhere; a parameter's gradient adds that up over 400 tokens.
        assert testing.relative_error(traced, eager.double()) < 5e-2
