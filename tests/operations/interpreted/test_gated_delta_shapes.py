"""The chunked kernels of the gated delta rule at shapes of every kind: head dims, lengths, groups, pieces, strides."""

import itertools
import math

import pytest
import torch
from gdnbench_kernels.gated_delta import gated_delta_rule
from gdnbench_kernels.gated_delta.gpu import segments
from gdnbench_kernels.testing import Case
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.operations import layouts
from tests.operations.agreement import RAW, Call, disagreements, draw, exact, run

F32 = torch.float32
PACKED = [1, 0, 63, 64, 65, 0]


def mismatches(call, **options):
    return disagreements(run(call, **options), exact(call, **options), F32)


# Beyond 128, K comes in two tiles; beyond 64, V in several programs.
@pytest.mark.parametrize(
    ("key_dim", "value_dim"), [(16, 32), (32, 16), (40, 72), (64, 128), (96, 192), (136, 16), (256, 24), (24, 512)]
)
def test_head_dims(key_dim, value_dim):
    assert mismatches(draw(Case(batch=1, time=66, heads=1, key_dim=key_dim, value_dim=value_dim), F32)) == {}


@pytest.mark.parametrize("time", [1, 15, 63, 64, 65, 128, 130])
def test_lengths(time):
    assert mismatches(draw(Case(batch=2, time=time, heads=1, key_dim=24, value_dim=16), F32)) == {}


@pytest.mark.parametrize(("heads", "group"), [(3, 1), (1, 4), (2, 3)])
def test_grouped_value_heads(heads, group):
    assert mismatches(draw(Case(batch=1, time=66, heads=heads, group=group, key_dim=16, value_dim=16), F32)) == {}


@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize(
    ("lengths", "raw"), [(PACKED, ()), (PACKED, RAW), ([0, 0, 5], ()), ([130], ("gate",)), ([0, 64], ("norm",))]
)
def test_packed_sequences(lengths, raw, state):
    case = Case(heads=1, group=2, key_dim=16, value_dim=24, state=state)
    assert mismatches(draw(case, F32, lengths=lengths, raw=raw)) == {}


def test_packed_sequences_equal_each_alone():
    call = draw(Case(heads=1, key_dim=16, value_dim=16), F32, lengths=PACKED)
    packed = run(call)
    whole = dict(call.tensors)
    states = whole.pop("initial_state")
    ends = list(itertools.accumulate(PACKED))
    for i, (start, end) in enumerate(zip([0, *ends], ends)):
        if start < end:
            own = {name: x[:, start:end] for name, x in whole.items()} | {"initial_state": states[i : i + 1]}
            alone = run(Call(own, {"scale": call.settings["scale"]}))
            assert torch.equal(packed["output"][:, start:end], alone["output"])
            assert torch.equal(packed["state"][i], alone["state"][0])
        else:
            assert torch.equal(packed["state"][i], states[i])


@pytest.fixture
def in_pieces(monkeypatch):
    """Cut every sequence into three pieces, as a GPU with room for more programs would."""
    monkeypatch.setattr(segments, "pieces_per_sequence", lambda layout: 3)


PIECES = {
    "dense": (Case(batch=1, time=330, heads=1, key_dim=32, value_dim=16), {}),
    "no decay, no state": (Case(batch=1, time=200, heads=1, key_dim=16, value_dim=40, decay="none", state=False), {}),
    "strong decay": (Case(batch=1, time=330, heads=1, key_dim=16, value_dim=24, decay="strong"), {}),
    "some forget": (Case(batch=1, time=330, heads=1, key_dim=16, value_dim=16, decay="resets"), {}),
    "two heads": (Case(batch=1, time=200, heads=1, group=2, key_dim=40, value_dim=24), {"raw": RAW}),
    "packed": (Case(heads=1, key_dim=40, value_dim=24), {"lengths": [20, 0, 200], "raw": RAW}),
    "packed, no state": (Case(heads=1, key_dim=16, value_dim=16, state=False), {"lengths": [0, 130, 65]}),
}


def assert_pieces_equal_the_whole(call, request):
    whole = run(call)
    request.getfixturevalue("in_pieces")
    cut = run(call)
    for name, x in whole.items():
        # Only the order of float32 sums, and a product of two transitions more or less.
        torch.testing.assert_close(cut[name], x, rtol=0, atol=5e-6 * float(x.abs().max().clamp_min(0.01)), msg=name)
    assert disagreements(cut, exact(call), F32) == {}


@pytest.mark.parametrize(("case", "options"), PIECES.values(), ids=PIECES)
def test_pieces_equal_the_whole(case, options, request):
    assert_pieces_equal_the_whole(draw(case, F32, **options), request)


def test_what_a_chunk_leaves_a_4000th_of_is_not_forgotten(request):
    call = draw(Case(batch=1, time=330, heads=1, key_dim=16, value_dim=16), F32)
    call.tensors["g"].fill_(-math.log(4000) / 64)
    assert_pieces_equal_the_whole(call, request)


def test_a_state_that_long_keys_keep_alive_is_not_forgotten(request):
    # A token takes e^-1.2 of the state, and turns what lies along its key by 1 - k^2 = -e^1.2: there nothing fades.
    call = draw(Case(batch=1, time=330, heads=1, key_dim=16, value_dim=16, keys="repeated", beta=1.0), F32)
    call.tensors["k"] *= (1 + math.exp(1.2)) ** 0.5
    call.tensors["g"].fill_(-1.2)
    assert_pieces_equal_the_whole(call, request)


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize("through", ["output", "state"])
def test_gradients_of_one_result_alone(through, state, pieces, request):
    if pieces:
        request.getfixturevalue("in_pieces")
    call = draw(Case(batch=1, time=130, heads=1, key_dim=16, value_dim=16, state=state), F32, raw=["norm"])
    assert mismatches(call, through=(through,)) == {}


def test_strides():
    call = draw(Case(batch=2, time=66, heads=1, group=2, key_dim=24, value_dim=16), F32, raw=RAW)
    plain = run(call)
    for laid_out in layouts.ALL:
        assert not laid_out(call.tensors)["v"].is_contiguous()
        found = run(call, laid_out=laid_out)
        assert all(torch.equal(found[name], plain[name]) for name in plain), laid_out.__name__


@pytest.mark.parametrize(
    "strided",
    [torch.ones(()).expand(1, 66, 2, 16), torch.ones(1, 66, 16, 2).mT, torch.ones(1, 2, 66, 16).transpose(1, 2)],
)
def test_strides_of_the_cotangent(strided):
    call = draw(Case(batch=1, time=66, heads=2, key_dim=16, value_dim=16, state=False), F32)
    leaves = {name: x.clone().requires_grad_() for name, x in call.tensors.items()}
    output, none = gated_delta_rule(**leaves, **call.settings, impl="triton")
    assert none is None
    assert not strided.is_contiguous()
    found, expected = (
        torch.autograd.grad(output, list(leaves.values()), weights, retain_graph=True)
        for weights in (strided, strided.contiguous())
    )
    assert all(map(torch.equal, found, expected))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    case=st.builds(
        Case,
        batch=st.integers(1, 2),
        time=st.integers(1, 70),
        heads=st.integers(1, 2),
        key_dim=st.integers(2, 20).map(lambda n: 8 * n),
        value_dim=st.integers(2, 20).map(lambda n: 8 * n),
        decay=st.sampled_from(["none", "default", "resets"]),
        state=st.booleans(),
    ),
    lengths=st.none() | st.lists(st.integers(0, 70), min_size=1, max_size=3).filter(sum),
    raw=st.sets(st.sampled_from(RAW)),
    seed=st.integers(0, 99),
)
def test_any_shape(case, lengths, raw, seed):
    assert mismatches(draw(case, F32, lengths=lengths, raw=raw, seed=seed)) == {}
