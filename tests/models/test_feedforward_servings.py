"""SwiGLU and RWKV's channel mix as generation runs them compute what their own steps compute."""

import copy

import pytest
import torch

from gdnbench.models.feedforward import build_feedforward
from gdnbench.models.projection import Projection
from gdnbench.models.serving import StepByStep
from tests.models.test_convolved_servings import FACTOR, draw, norm_of, served, slots_of, stepped

ROWS, TOKENS = 3, 5


@pytest.fixture(params=["swiglu", "channel_mix"])
def layer(request, tiny_decoder):
    config = tiny_decoder("transformer").config
    layer = build_feedforward(request.param, config, 0).double()
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=10 + seed) * parameter.shape[-1] ** -0.5)
    return layer


@pytest.mark.parametrize("kind", ["rms", "layer"])
@torch.no_grad()
def test_tokens_equal_the_layers_own_steps(layer, kind):
    own, norm, slots = copy.deepcopy(layer), norm_of(kind, layer.width), slots_of(ROWS)
    x, y = (draw(ROWS, TOKENS, layer.width, seed=seed) for seed in (1, 2))
    _, state = own(draw(ROWS, 4, layer.width, seed=9), own.init_state(ROWS))
    serving = layer.serve(norm, slots, factor=FACTOR)
    serving.load(slice(None), copy.deepcopy(state))
    stream, outs, state = stepped(own, norm, x, y, state)
    found = served(serving, slots, x, y)
    for actual, expected in zip(found, (stream, outs), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)
    left = serving.unload(slice(1, 2))
    assert left.keys() == state.keys()
    for name in state:
        torch.testing.assert_close(left[name], state[name][1:2], rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_first_token_that_nothing_is_added_to(layer):
    own, norm, x = copy.deepcopy(layer), norm_of("rms", layer.width), draw(ROWS, layer.width)
    stream, out = layer.serve(norm, slots_of(ROWS)).step(x, None, {})
    expected, _ = own.step(norm(x), own.init_state(ROWS))
    assert stream is x
    torch.testing.assert_close(out, expected)


@torch.no_grad()
def test_weights_are_held_once_and_forward_computes_the_same(layer):
    x = draw(2, 7, layer.width)
    expected, _ = copy.deepcopy(layer)(x)
    serving = layer.serve(norm_of("rms", layer.width), slots_of(2))
    kept = {whole.untyped_storage().data_ptr() for whole in (serving.inputs, serving.output)}
    assert {p.weight.untyped_storage().data_ptr() for p in layer.modules() if isinstance(p, Projection)} == kept
    torch.testing.assert_close(layer(x)[0], expected, rtol=1e-12, atol=1e-12)


def test_a_variant_that_computes_otherwise_is_served_by_its_steps(layer):
    layer.__class__ = type("Other", (type(layer),), {"forward": lambda self, *given: given})
    assert type(layer.serve(norm_of("rms", layer.width), slots_of(1))) is StepByStep


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch")
@pytest.mark.parametrize("rows", [1, 8])
@torch.no_grad()
def test_on_a_gpu_in_half_precision(layer, rows):
    own, norm = copy.deepcopy(layer), norm_of("rms", layer.width)
    x, y = (draw(rows, TOKENS, layer.width, seed=seed) for seed in (1, 2))
    slots = slots_of(rows, torch.bfloat16, impl="triton", device="cuda")
    serving = layer.float().cuda().serve(norm_of("rms", layer.width).float().cuda(), slots, factor=FACTOR)
    _, outs, _ = stepped(own, norm, x, y, own.init_state(rows))
    _, found = served(serving, slots, x.float().cuda(), y.bfloat16().cuda())
    assert (found.cpu().double() - outs).norm() < 2e-2 * outs.norm()
