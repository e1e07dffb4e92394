"""What a layer on our kernels keeps for its backward pass, and that computing again changes no gradient."""

import pytest
import torch
from gdnbench_kernels.gated_delta.gpu.layout import ROWS

from gdnbench.models import ModelConfig, Parametrization, build_decoder
from gdnbench.models.running import running

WIDTH, HEADS, KEY, VALUE, HIDDEN, CHUNK = 64, 2, 16, 32, 176, 64
OWN = ("gated_delta", "ssd", "short_convolution", "gated_norm", "add_norm", "linear_cross_entropy")
COMPILER = "aot_eager_decomp_partition"


OPTIONS = {
    "gdn": {"heads": HEADS, "head_k_dim": KEY, "head_v_dim": VALUE},
    "mamba2": {"state_dim": 16, "head_dim": 32},
}


def decoder(depth, arch="gdn"):
    options = {arch: OPTIONS[arch]}
    backend = dict.fromkeys(OWN, "triton")
    config = ModelConfig(
        arch=arch, width=WIDTH, depth=depth, vocab_size=16, options=options, backend=backend, init_std=0.1
    )
    return build_decoder(config, Parametrization(), seed=0)


def tokens():
    return torch.randint(16, (1, CHUNK + 1), generator=torch.Generator().manual_seed(0))


def kept(depth, recompute):
    """The numbers that a compiled pass keeps beside the parameters."""
    model, sizes = decoder(depth), {}
    model.run(running(compile=True, recompute=recompute, compiler=COMPILER))
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(x):
        if x.untyped_storage().data_ptr() not in own:
            sizes[x.untyped_storage().data_ptr()] = x.numel()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model.hidden(tokens()[:, :-1])
    return sum(sizes.values())


@pytest.mark.parametrize("recompute", ["cheap", "some"])
def test_by_token_and_layer_is_kept_what_products_norms_and_the_rule_put_out(recompute):
    torch._dynamo.reset()
    found = (kept(2, recompute) - kept(1, recompute)) / CHUNK
    wide = 2 * HEADS * KEY + HEADS * VALUE + 2 * HEADS  # q, k, v and both gates
    rule = HEADS * (VALUE + 2 * CHUNK + len(ROWS))  # output, inverse, attention, and a few numbers
    gate = HEADS * VALUE
    norms = 2 * (WIDTH + 1)
    by_token = norms + wide + gate + rule + 2 * HIDDEN
    if recompute == "some":
        by_token += HEADS * VALUE + HEADS  # the gated norm, and what it divides by
    # Matrices and taps that are put together, once a layer.
    once = WIDTH * wide + 4 * (2 * HEADS * KEY + HEADS * VALUE)
    assert found == pytest.approx(by_token + once / CHUNK, rel=0.01)


def gradients(arch, how):
    model, batch = decoder(1, arch), tokens()
    model.run(how)
    model.loss(batch[:, :-1], batch[:, 1:]).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.fixture(scope="module")
def plain():
    return {arch: gradients(arch, running()) for arch in OPTIONS}


WAYS = [("gdn", recompute, compiled) for recompute in ("cheap", "some") for compiled in (True, False)]


@pytest.mark.parametrize(("arch", "recompute", "compiled"), [*WAYS, ("mamba2", "cheap", True)])
def test_gradients_are_the_same(arch, recompute, compiled, plain):
    found = gradients(arch, running(compile=compiled, recompute=recompute, compiler=COMPILER))
    for name, gradient in plain[arch].items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
