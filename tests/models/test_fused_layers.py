"""Layers that compute several parts as one operation agree with their parts computed one by one."""

from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gdnbench.measure.coordinates import activations
from gdnbench.models import registry
from gdnbench.models.apart import apart
from gdnbench.models.products import products
from gdnbench.models.projection import Projection, project
from gdnbench.models.roles import normal
from tests.models import product_flops  # noqa: F401 (registers)

FORMS = [(arch, block) for arch in registry.names() for block in ("controlled", "native")]
every_form = pytest.mark.parametrize(("arch", "block"), FORMS)


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


def loss_and_gradients(model, tokens):
    model.zero_grad()
    loss = model.loss(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    return {"loss": loss.detach(), **{name: p.grad.clone() for name, p in model.named_parameters()}}


@every_form
def test_together_is_apart(arch, block, tiny_decoder, tiny_tokens):
    model, tokens = tiny_decoder(arch, block=block), tiny_tokens(2, 21)
    together = loss_and_gradients(model, tokens)
    with apart():
        parts = loss_and_gradients(model, tokens)
    for name, value in together.items():
        assert_same(value, parts[name])


@every_form
@torch.no_grad()
def test_together_is_apart_with_a_state(arch, block, tiny_decoder, tiny_tokens):
    model, tokens = tiny_decoder(arch, block=block), tiny_tokens(2, 9)

    def in_parts():
        first, state = model(tokens[:, :5], model.init_state(2))
        last, _ = model.step(tokens[:, 5], state)
        return torch.cat([first, last[:, None]], 1)

    together = in_parts()
    with apart():
        assert_same(in_parts(), together)


def test_a_gate_without_a_convolution_of_values(tiny_decoder, tiny_tokens):
    model = tiny_decoder("gdn", options={"gdn": {"heads": 2, "conv_values": False}})
    together = model(tiny_tokens(2, 9))[0]
    with apart():
        assert_same(model(tiny_tokens(2, 9))[0], together)


def test_every_module_is_called_only_apart(tiny_decoder, tiny_tokens):
    """What the coordinate check hooks puts something out there; together, fused modules put nothing out."""
    model, called = tiny_decoder("gdn"), set()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    model(tiny_tokens(1, 5))
    assert "blocks.0.mixer.q_proj" not in called
    with apart():
        model(tiny_tokens(1, 5))
    assert {"blocks.0.mixer.q_proj", "blocks.0.mixer.v_conv", "blocks.1.mixer.o_norm"} <= called


def test_the_coordinate_check_leaves_layers_together(tiny_decoder, tiny_tokens):
    model, called = tiny_decoder("gdn"), []
    activations(model, tiny_tokens(1, 5))
    model.blocks[0].mixer.q_proj.register_forward_hook(lambda *_: called.append(1))
    model(tiny_tokens(1, 5))
    assert not called


def pair(factor=1.0):
    first, second = (Projection(6, size, init=normal(1.0)).double() for size in (3, 4))
    for projection in (first, second):
        torch.nn.init.normal_(projection.weight)
    second.factor = factor
    return first, second


@pytest.mark.parametrize("gradients", [True, False])
def test_factors_of_projections_hold_in_one_product(gradients):
    first, second = pair(0.25)
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    expected = x @ first.weight.T, 0.25 * x @ second.weight.T
    with torch.set_grad_enabled(gradients):
        side_by_side, again = project(x, (first, second), second)
        assert_same(side_by_side, torch.cat(expected, -1))
        assert_same(again, expected[1])


def test_side_by_side_in_half_precision_there_are_zeros_behind():
    first, second = (projection.float() for projection in pair())
    x = torch.randn(2, 5, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wide, alone = project(x, (first, second), second)
    assert wide.shape == (2, 5, 16) and alone.shape == (2, 5, 4)
    assert not wide[..., 7:].any()
    torch.testing.assert_close(wide[..., 3:7].float(), x @ second.weight.T, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("form", [lambda f: f, partial(torch.compile, backend="aot_eager", fullgraph=True)])
def test_products_by_finite_differences(form):
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    matrices = [torch.randn(rows, 4, dtype=torch.float64, requires_grad=True) for rows in (1, 3, 2)]
    assert torch.autograd.gradcheck(form(lambda x, *matrices: products(x, matrices)), (x, *matrices))


def test_gradients_of_matrices_have_their_own_type():
    x, matrix = torch.ones(4, 2), torch.ones(3, 2, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (y,) = products(x, [matrix])
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert torch.equal(matrix.grad, torch.full((3, 2), 4.0))


def test_operations_of_products_are_counted():
    x, matrices = torch.ones(3, 5, 4, requires_grad=True), [torch.ones(rows, 4, requires_grad=True) for rows in (2, 6)]
    with FlopCounterMode(display=False) as counter:
        ys = products(x, matrices)
        forward = counter.get_total_flops()
        torch.autograd.backward(ys, [torch.ones_like(y) for y in ys])
    assert (forward, counter.get_total_flops()) == (2 * 15 * 4 * 8, 6 * 15 * 4 * 8)
