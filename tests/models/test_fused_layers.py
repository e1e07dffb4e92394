"""Layers that compute several parts as one operation agree with their parts computed one by one."""

import pytest
import torch

from gdnbench.measure.coordinates import activations
from gdnbench.models import registry
from gdnbench.models.apart import apart
from gdnbench.models.projection import Projection, project, project_each
from gdnbench.models.roles import normal

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


def test_factors_of_projections_hold_in_one_product():
    first, second = (Projection(6, size, init=normal(1.0)).double() for size in (3, 4))
    for projection in (first, second):
        torch.nn.init.normal_(projection.weight)
    second.factor = 0.25
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    expected = x @ first.weight.T, 0.25 * x @ second.weight.T
    assert_same(project(x, first, second), torch.cat(expected, -1))
    for part, wanted in zip(project_each(x, first, second), expected, strict=True):
        assert_same(part, wanted)


def test_rows_of_half_precision_are_padded_for_tensor_cores():
    first, second = (Projection(6, size, init=normal(1.0)) for size in (3, 4))
    torch.nn.init.normal_(second.weight)
    x = torch.randn(2, 5, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, part = project_each(x, first, second)
    assert part.shape == (2, 5, 4)
    assert part.stride() == (40, 8, 1)
    torch.testing.assert_close(part.float(), x @ second.weight.T, rtol=0.02, atol=0.05)
