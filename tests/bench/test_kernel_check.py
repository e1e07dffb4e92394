"""The check before the timing: a planted mistake of any kind is found, and a right backend passes."""

import math

import pytest
import torch

from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.measure.kernels.case import KernelCase, Shape
from gdnbench.measure.kernels.check import Reference
from gdnbench.measure.kernels.grid import Block, Group
from gdnbench.measure.kernels.measure import Refusal, open_block
from gdnbench.measure.kernels.operations import OPERATIONS
from gdnbench.measure.kernels.operations.gated_delta import GATES, SCALED_GATES

SHAPE = Shape(2, 70, 2, 16, 24)
RATES = Calibration(copy_gb_s=10.0, matmul_tflop_s=0.1)


def case(**changes) -> KernelCase:
    fields = {
        "op": "gated_delta", "impl": "torch", "shape": SHAPE, "dtype": "float32", "direction": "forward_backward",
        "timing": "eager", "qk_norm": "given", "gates": "default", "device": "cpu",
    }  # fmt: skip
    return KernelCase(**(fields | changes))


def reference(of: KernelCase) -> Reference:
    operation = OPERATIONS[of.op]
    tensors = operation.inputs(of, 0)
    return Reference(operation, of, tensors, operation.cotangent(tensors, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("gates", ["none", "default", "strong"])
@pytest.mark.parametrize("qk_norm", ["given", "raw"])
def test_the_chunked_form_passes(gates, qk_norm):
    of = case(gates=gates, qk_norm=qk_norm)
    check = reference(of).check_gradients(of)
    assert check.correct, check.problems()
    assert set(check.errors) == {"output", "d_q", "d_k", "d_v", "d_g", "d_beta"}
    assert 0 < check.worst < 1e-4


@pytest.mark.parametrize("variant", [GATES, SCALED_GATES])
def test_raw_gates_pass_with_gradients_of_their_parameters(variant):
    of = case(variant=variant)
    check = reference(of).check_gradients(of)
    assert check.correct, check.problems()
    assert {"d_A_log", "d_dt_bias"} <= set(check.errors)


def test_the_gating_normalization_changes_the_result():
    """Or its cost would be that of nothing."""
    plain, scaled = case(variant=GATES), case(variant=SCALED_GATES)
    assert not reference(plain).check_forward(scaled).correct


@pytest.mark.parametrize("op", ["gated_delta_step", "short_convolution", "gated_norm", "linear_cross_entropy"])
def test_the_other_operations_pass(op):
    of = case(op=op, shape=Shape(2, 1 if op == "gated_delta_step" else 70, 2, 16, 24), direction="forward")
    check = reference(of).check_forward(of)
    assert check.correct, check.problems()


def test_a_loss_passes_with_all_its_tokens():
    of = case(op="linear_cross_entropy", shape=Shape(2, 70, 1, 16, 24))
    check = reference(of).check_gradients(of)
    assert check.correct, check.problems()
    assert set(check.errors) == {"output", "d_x", "d_weight"}
    assert check.part == "all sequences, 70 of 70 tokens"


def test_a_step_in_place_leaves_the_checks_inputs_as_they_were():
    of = case(op="gated_delta_step", shape=Shape(2, 1, 2, 16, 24), direction="forward")
    checked = reference(of)
    before = checked.tensors["state"].clone()
    assert set(checked.check_forward(of).errors) == {"output", "state"}
    assert torch.equal(checked.tensors["state"], before)


class Wrong(torch.autograd.Function):
    """The identity with a planted mistake in its result or its gradient."""

    @staticmethod
    def forward(ctx, x, where):
        ctx.where = where
        x = x.clone()
        if where == "last sequence":
            x[-1, -1] *= 1.5
        if where == "not a number elsewhere":
            x[0, 3] = math.nan
        return x

    @staticmethod
    def backward(ctx, gradient):
        return (-gradient if ctx.where == "sign of a gradient" else gradient), None


@pytest.mark.parametrize("where", ["last sequence", "not a number elsewhere", "sign of a gradient"])
def test_a_planted_mistake_is_found(monkeypatch, where):
    from gdnbench_kernels.gated_delta.impl import torch as backend

    of = case()
    checked = reference(of)
    checked._results()
    run = backend.gated_delta_rule

    def planted(q, k, v, *rest, **settings):
        if where == "sign of a gradient":
            return run(q, k, Wrong.apply(v, where), *rest, **settings)
        output, state = run(q, k, v, *rest, **settings)
        return Wrong.apply(output, where), state

    monkeypatch.setattr(backend, "gated_delta_rule", planted)
    check = checked.check_gradients(of)
    assert not check.correct
    assert ("d_v" if where == "sign of a gradient" else "output") in check.problems()


def measured(of: KernelCase):
    with open_block(Block((Group((of,), None),)), RATES, 2) as run:
        run.prepare()
        return run.measure(run.block.groups[0])[0]


def test_what_is_wrong_is_not_timed(monkeypatch):
    from gdnbench_kernels.gated_delta.impl import reference as backend

    run = backend.gated_delta_rule
    monkeypatch.setattr(backend, "gated_delta_rule", lambda *a, **s: (1.1 * run(*a, **s)[0], None))
    found = measured(case(impl="reference", shape=Shape(1, 20, 1, 16, 16), direction="forward"))
    assert found.wrong
    assert found.clocked is None
    assert found.ratio is None


def test_what_is_right_is_timed():
    found = measured(case(direction="backward"))
    assert found.clocked is not None
    assert len(found.clocked.samples) == 2
    assert found.clocked.sets == 2
    assert found.clocked.ms.median > 0


def test_a_refusal_and_a_breakdown_are_told_apart(monkeypatch):
    from gdnbench_kernels.gated_delta.impl import torch as backend

    def raises(error):
        def run(*arguments, **settings):
            raise error

        monkeypatch.setattr(backend, "gated_delta_rule", run)
        return measured(case(direction="forward")).refusal

    assert raises(ValueError("q: K is 16, wants 128")) == Refusal("unavailable", "ValueError: q: K is 16, wants 128")
    assert raises(RuntimeError("boom\nand more")) == Refusal("failed", "RuntimeError: boom")
