"""Compiled and recomputing passes: the same losses and gradients, one compiled form for all layers, little kept."""

import pytest
import torch
from torch._dynamo.utils import counters

from gdnbench.models import ModelConfig, Parametrization, build_decoder, registry
from gdnbench.models.running import running

WAYS = {
    "recomputed": {"recompute": "cheap"},
    "some recomputed": {"recompute": "some"},
    "compiled": {"compile": True},
    "compiled and recomputed": {"compile": True, "recompute": "cheap"},
}
# All of torch.compile but the code it would generate.
COMPILER = "aot_eager_decomp_partition"
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def found(model, tokens):
    model.zero_grad()
    loss = model.loss(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    return {"loss": loss.detach(), **{name: p.grad.clone() for name, p in model.named_parameters()}}


def ways_apart(model, tokens, way, **settings):
    """Return the largest difference of any gradient to those of a plain pass, in units of its largest number."""
    model.run(running(), **settings)
    plain = found(model, tokens)
    model.run(running(**way, compiler=COMPILER), **settings)
    other = found(model, tokens)
    return max(float((other[name] - value).abs().max() / value.abs().max()) for name, value in plain.items())


@every_way
@pytest.mark.parametrize(("arch", "block"), [(a, "controlled") for a in registry.names()] + [("rwkv7", "native")])
def test_the_same_losses_and_gradients(arch, block, way, tiny_decoder, tiny_tokens):
    model = tiny_decoder(arch, block=block, depth=3)
    assert ways_apart(model, tiny_tokens(2, 18), way) < 1e-12


@every_way
def test_a_hybrid_shares_what_its_layers_share(way, tiny_decoder, tiny_tokens):
    model = tiny_decoder("hybrid", pattern="rwkv7 gdn transformer rwkv7 transformer", depth=5)
    assert ways_apart(model, tiny_tokens(2, 18), way) < 1e-12


@every_way
@pytest.mark.parametrize("residual", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_under_autocast(way, residual, tiny_decoder, tiny_tokens):
    model = tiny_decoder("gdn").float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ways_apart(model, tiny_tokens(2, 18), way, residual=residual) < 0.1


def test_layers_of_a_kind_share_one_compiled_form(tiny_decoder, tiny_tokens):
    """Whatever their weights are, and those of another model of its sizes."""
    for seed in (0, 1):
        model = tiny_decoder("gdn", depth=4, perturb=0.1 + seed)
        model.run(running(**WAYS["compiled and recomputed"], compiler=COMPILER))
        found(model, tiny_tokens(2, 18, seed))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    assert not counters["recompiles"]


def test_evaluation_compiles_nothing(tiny_decoder, tiny_tokens):
    model = tiny_decoder("gdn")
    expected = model(tiny_tokens(2, 18))[0].detach()
    model.run(running(compile=True, compiler=COMPILER))
    with torch.no_grad():
        assert torch.equal(model(tiny_tokens(2, 18))[0], expected)
    assert not counters["stats"]


def kept(model, tokens):
    """The numbers that a training pass keeps for its backward pass beside the parameters."""
    own, sizes = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def pack(x):
        if x.untyped_storage().data_ptr() not in own:
            sizes[x.untyped_storage().data_ptr()] = x.numel()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model.hidden(tokens)
    return sum(sizes.values())


def test_what_is_kept_is_what_products_put_out():
    """By token and layer: what comes in, and what products and attention put out and a gradient needs."""
    width, hidden, tokens = 64, 176, torch.randint(8, (2, 64))
    by_depth = []
    for depth in (2, 4):
        config = ModelConfig(arch="transformer", width=width, depth=depth, vocab_size=8)
        model = build_decoder(config, Parametrization(), seed=0)
        model.run(running(**WAYS["compiled and recomputed"], compiler=COMPILER))
        by_depth.append(kept(model, tokens))
    heads = 4
    attention = 3 * width + width + heads  # q, k, v; the output; the logarithm of a sum by head
    # Its input, what is to be added to that, what the mixer adds; gate and up; a number for each norm.
    block = 3 * width + attention + 2 * hidden + 2
    assert (by_depth[1] - by_depth[0]) / (2 * tokens.numel()) == block
