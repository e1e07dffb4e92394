"""The list of measurements: complete, the most important first, and every mistake of a name is an error."""

import pytest

from gdnbench.errors import GdnbenchError
from gdnbench.measure.kernels.first_call import case_of
from gdnbench.measure.kernels.grid import GPU_SHAPES, LOSS_SHAPES, blocks, chosen


def cases(**options):
    return [case for block in blocks(chosen(**options)) for group in block.groups for case in group.cases]


def test_the_whole_list_on_a_gpu():
    found = cases(device="cuda", names=["torch", "reference"], peer="reference")
    delta = [case for case in found if case.op == "gated_delta" and not case.variant]
    assert len(delta) == len(GPU_SHAPES) * 2 * 2 * 2 * 3 * 2  # backends, directions, clocks, gates, norms
    assert len({case.run_id for case in found}) == len(found), "every case has an id of its own"
    assert {case.dtype for case in found} == {"bfloat16"}
    assert {case.op for case in found} == {
        "gated_delta", "gated_delta_step", "gated_delta_negative", "attention", "ssd", "wkv7", "kda",
        "short_convolution", "gated_norm", "linear_cross_entropy",
    }  # fmt: skip


def test_what_matters_most_comes_first():
    found = cases(device="cuda", names=["torch"])
    order = [(case.op, case.gates, case.qk_norm) for case in found]
    assert order[0] == ("gated_delta", "default", "given")
    first = {key: order.index(key) for key in dict.fromkeys(order)}
    assert list(first) == sorted(first, key=first.__getitem__)
    assert first["gated_delta", "default", "raw"] < first["gated_delta", "strong", "given"]
    assert first["gated_delta_step", "default", "given"] < first["gated_delta", "default", "raw"]
    assert order[-1] == ("gated_delta", "none", "raw")
    assert [str(case.shape) for case in found[: 4 * 6 : 4]] == list(GPU_SHAPES)


def test_a_group_has_one_case_a_backend_and_its_peer():
    options = chosen(device="cpu", names=["torch", "reference"], peer="torch", parts=["delta"])
    for block in blocks(options):
        for group in block.groups:
            assert [case.impl for case in group.cases] == ["torch", "reference"]
            assert group.peer == 0
            assert len({(c.direction, c.timing, c.gates, c.qk_norm, c.shape) for c in group.cases}) == 1


def test_the_gating_normalization_is_compared_with_the_same_call_without():
    options = chosen(device="cuda", names=["torch"], parts=["gating"], shapes=["1,64,1,16,16"])
    (block,) = blocks(options)
    for group in block.groups:
        assert [case.variant.endswith("gate_scale=0.7") for case in group.cases] == [False, True]
        assert group.peer == 0


def test_a_loss_has_sizes_of_its_own_and_no_backward_pass_alone():
    found = cases(device="cuda", names=["torch"], parts=["fused"], directions=["forward_backward", "backward"])
    losses = [case for case in found if case.op == "linear_cross_entropy"]
    assert {str(case.shape) for case in losses} == set(LOSS_SHAPES["cuda"])
    assert {case.direction for case in losses} == {"forward_backward"}
    assert {"triton", "torch", "liger", "whole"} == {case.impl for case in losses}
    backward = cases(device="cpu", parts=["fused"], directions=["backward"])
    assert {case.op for case in backward} == {"short_convolution", "gated_norm"}


def test_a_case_survives_the_way_into_another_process():
    (case, *_) = cases(device="cpu")
    assert case_of(case.spec()) == case
    assert case_of(case.spec()).run_id == case.run_id


def test_several_shapes_in_one_argument():
    options = chosen(device="cpu", shapes=["1,2,3,16,16 1,2,3,16,32", "1,2,3,16,16"])
    assert list(map(str, options.shapes)) == ["1,2,3,16,16", "1,2,3,16,32"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"names": ["tritn"]}, "unknown backend 'tritn'; did you mean triton"),
        ({"shapes": ["8,4096,16,128"]}, "shape '8,4096,16,128': expected B,T,H,K,V"),
        ({"shapes": ["8,4096,16,128,0"]}, "above 0"),
        ({"shapes": ["a,b,c,d,e"]}, "'a,b,c,d,e'"),
        ({"step": "1,2,3"}, "expected B,H,K,V"),
        ({"timings": ["device"]}, "--timing device: a CPU has no device time"),
        ({"timings": ["wall"]}, "unknown timing 'wall'"),
        ({"gates": ["weak"]}, "unknown gate regime 'weak'"),
        ({"directions": ["sideways"]}, "unknown direction"),
        ({"qk": ["both"]}, "unknown --qk choice 'both'"),
        ({"parts": ["dleta"]}, "did you mean delta"),
        ({"peer": "fla"}, "--peer fla: not among the backends that are timed (torch)"),
        ({"repeats": 0}, "--repeats 0"),
        ({"dtype": "float8"}, "unknown dtype 'float8'"),
    ],
)
def test_a_mistake_is_named(wrong, said):
    with pytest.raises(GdnbenchError) as raised:
        chosen(device="cpu", **wrong)
    assert said in str(raised.value)
