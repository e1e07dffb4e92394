"""The kernels of Mamba-2's SSD against the recurrence in float64: shapes, groups, regimes, types, strides."""

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.backends import BackendRefusal
from gdnbench_kernels.gated_delta.gpu import prepare
from gdnbench_kernels.ssd import ssd
from gdnbench_kernels.ssd.gpu import gradients
from gdnbench_kernels.ssd.impl import triton  # noqa: F401  (registers the custom ops)
from gdnbench_kernels.testing import Case
from torch import nn

from tests.operations import layouts
from tests.operations.agreement import disagreements, draw_ssd, exact, run
from tests.operations.layer import forward_and_backward

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
SINGLE = 1 / 20  # nothing is inverted here, so float32 is held to a budget of its own (`disagreements`)


def mismatches(call, dtype=F32, **options):
    return disagreements(run(call, **options), exact(call, **options), dtype, slack=SINGLE if dtype == F32 else 1.0)


# Beyond 128, K comes in two tiles whose gates are added up; beyond 64, so does V.
@pytest.mark.parametrize(
    ("key_dim", "value_dim"), [(16, 32), (32, 16), (40, 72), (64, 64), (128, 64), (136, 16), (256, 24), (16, 136)]
)
def test_head_dims(key_dim, value_dim):
    case = Case(batch=1, time=66, heads=1, group=2, key_dim=key_dim, value_dim=value_dim)
    assert mismatches(draw_ssd(case, F32)) == {}


@pytest.mark.parametrize("time", [1, 15, 63, 64, 65, 128, 130])
def test_lengths(time):
    assert mismatches(draw_ssd(Case(batch=2, time=time, heads=1, group=2, key_dim=24, value_dim=16), F32)) == {}


@pytest.fixture
def together(monkeypatch, request):
    """Let a program take so many heads of the six of a group, as it would where there are more chunks."""
    for module in (prepare, gradients):
        monkeypatch.setattr(module, "FULL", 2 * 6 // request.param)  # programs for two chunks


@pytest.mark.parametrize("together", [1, 2, 3, 6], indirect=True)
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_heads_that_share_a_program(together, dtype):
    case = Case(batch=1, time=70, heads=1, group=6, key_dim=136, value_dim=16, decay="none")
    assert mismatches(draw_ssd(case, dtype), dtype) == {}


@pytest.mark.parametrize(("heads", "group"), [(3, 1), (1, 5), (2, 3)])
def test_groups(heads, group):
    assert mismatches(draw_ssd(Case(batch=1, time=66, heads=heads, group=group, key_dim=16, value_dim=16), F32)) == {}


@pytest.mark.parametrize("keys", testing.KEYS)
@pytest.mark.parametrize("decay", testing.DECAYS)
@pytest.mark.parametrize("dtype", [F32, BF16, F16])
def test_every_regime(dtype, decay, keys):
    case = Case(batch=1, time=100, heads=1, group=2, key_dim=40, value_dim=24, decay=decay, keys=keys)
    assert mismatches(draw_ssd(case, dtype), dtype) == {}


@pytest.mark.parametrize("decay", ["none", "default"])
def test_one_token_that_forgets_everything(decay):
    # e^-10000 is 0, and differences of cumulative decays around it keep few digits: at most 10000 * 2^-24 = 6e-4.
    call = draw_ssd(Case(batch=1, time=130, heads=1, key_dim=16, value_dim=16, decay=decay), F32)
    call.tensors["g"][0, 70] = -1e4
    assert disagreements(run(call), exact(call), F32) == {}


@pytest.mark.parametrize("through", ["output", "state"])
@pytest.mark.parametrize("state", [True, False])
def test_gradients_of_one_result_alone(state, through):
    call = draw_ssd(Case(batch=1, time=70, heads=1, group=2, key_dim=16, value_dim=16, state=state), F32)
    assert mismatches(call, through=(through,)) == {}


@pytest.mark.parametrize("laid_out", layouts.ALL)
def test_strides(laid_out):
    call = draw_ssd(Case(batch=2, time=70, heads=1, group=2, key_dim=16, value_dim=24), F32)
    assert not laid_out(call.tensors)["x"].is_contiguous()
    assert mismatches(call, laid_out=laid_out) == {}


def test_gates_and_states_in_half_precision():
    call = draw_ssd(Case(batch=1, time=70, heads=1, key_dim=16, value_dim=16), BF16)
    call.tensors.update({name: call.tensors[name].to(BF16) for name in ("g", "dt", "initial_state")})
    actual = run(call)
    assert disagreements(actual, exact(call), BF16) == {}
    assert {name for name, x in actual.items() if x.dtype == F32} == {"state"}


def test_gradients_of_gates_are_float32_and_of_the_rest_as_they_came():
    actual = run(draw_ssd(Case(batch=1, time=5, heads=1, key_dim=16, value_dim=16), BF16))
    assert {name for name, x in actual.items() if x.dtype == F32} == {"state", "d_g", "d_dt", "d_initial_state"}


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_a_wrong_sign_in_any_one_gradient_is_found(dtype):
    call = draw_ssd(Case(batch=1, time=66, heads=1, group=2, key_dim=136, value_dim=16), dtype)
    actual, expected = run(call), exact(call)
    for name in [name for name in expected if name.startswith("d_")]:
        assert disagreements(actual | {name: -actual[name]}, expected, dtype).keys() == {name}


@pytest.mark.parametrize("state", [True, False])
def test_forward_and_backward_are_proper_operators(state):
    call = draw_ssd(Case(batch=1, time=66, heads=1, group=2, key_dim=16, value_dim=16, state=state), F32)
    plain = [call.tensors.get(name) for name in ("c", "b", "x", "g", "dt", "initial_state")]
    leaves = [None if t is None else t.clone().requires_grad_() for t in plain]
    ops = torch.ops.gdnbench
    torch.library.opcheck(ops.ssd.default, (*leaves, True))
    output, final = ops.ssd(*plain, True)
    torch.library.opcheck(ops.ssd_backward.default, (*plain, output, final))


class Layer(nn.Module):
    """Projections before and after, as a model has them."""

    def __init__(self, heads, key_dim, value_dim):
        super().__init__()
        self.sizes = [key_dim, key_dim, heads * value_dim, heads]
        self.project, self.out = nn.Linear(32, sum(self.sizes)), nn.Linear(heads * value_dim, 32)

    def forward(self, x, state):
        c, b, u, z = self.project(x).split(self.sizes, -1)
        dt = z.float().sigmoid()
        u = u.unflatten(-1, (dt.shape[-1], -1))
        settings = {"initial_state": state, "output_final_state": True, "impl": "triton"}
        output, state = ssd(c[:, :, None], b[:, :, None], u, -2 * dt, dt, **settings)
        return self.out(output.flatten(2)), state


def test_compiles_without_a_graph_break():
    torch.manual_seed(0)
    layer = Layer(heads=2, key_dim=16, value_dim=24)
    x, state = torch.randn(1, 66, 32, requires_grad=True), torch.randn(1, 2, 16, 24, requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for eager, traced in zip(*(forward_and_backward(form, x, state) for form in (layer, compiled)), strict=True):
        torch.testing.assert_close(traced, eager)


@pytest.mark.parametrize(("sizes", "message"), [((12, 16), "^c: K is 12"), ((16, 20), "^x: V is 20, wants a multiple")])
def test_head_dims_that_are_not_served(sizes, message):
    call = draw_ssd(Case(batch=1, time=2, heads=1, key_dim=sizes[0], value_dim=sizes[1]), F32)
    with pytest.raises(BackendRefusal, match=message + ".*served here by: reference, torch$"):
        ssd(**call.tensors, impl="triton")
