"""Parameters, state bytes and FLOPs: the formulas against what is really there."""

from types import SimpleNamespace

import pytest
import torch
from gdnbench_kernels import backends
from torch.utils.flop_counter import FlopCounterMode

from gdnbench.errors import GdnbenchError
from gdnbench.models import Parametrization, build_decoder, registry
from gdnbench.models.decoder import on_meta
from tests.models import product_flops  # noqa: F401 (registers)

every_model = pytest.mark.parametrize(
    ("arch", "block", "geometry", "tied"),
    [
        (a, b, g, t)
        for a in [*registry.names(), "hybrid"]
        for b in ("controlled", "native")
        for g in ("paper", "fixed_head")
        for t in (True, False)
    ],
)


@every_model
def test_parameters(arch, block, geometry, tied, tiny_config):
    model = on_meta(tiny_config(arch, block=block, geometry=geometry, tied=tied))
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    tables = sum(size for name, size in sizes.items() if name in ("embedding.weight", "head.weight"))
    assert model.parameter_count(embedding=True) == sum(sizes.values())
    assert model.parameter_count(embedding=False) == sum(sizes.values()) - tables
    assert tables == 11 * 32 * (1 if tied else 2)


@every_model
@torch.no_grad()
def test_state_bytes(arch, block, geometry, tied, tiny_config, tiny_tokens):
    dtype = torch.float32 if tied else torch.float64
    config = tiny_config(arch, block=block, geometry=geometry, tied=tied)
    model = build_decoder(config, Parametrization(), seed=0).to(dtype)
    for context in (1, 9):
        _, states = model(tiny_tokens(1, context), model.init_state(1))
        tensors = [
            # Of a cache only the filled part counts; its counter is bookkeeping.
            tensor[:, : int(layer["length"])] if name in ("k", "v") else tensor
            for block_state in states
            for layer in block_state.values()
            for name, tensor in layer.items()
            if name != "length"
        ]
        actual = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        assert model.state_bytes(context, dtype.itemsize) == actual


# FLOPs of one token by the definition of the core operation, derived by hand for width 32 over base width 16 in the
# paper's geometry, a context of 12 and one layer; a multiply-add is 2.
CORE = {
    # 6 heads of K 4 and V 8: recall k^T S, write k delta^T, read q^T S, each a multiply-add an entry of S.
    "gdn": 6 * (3 * 2 * 4 * 8),
    # 4 heads of P 16 and N 8: write b x^T and read c^T S.
    "mamba2": 4 * (2 * 2 * 8 * 16),
    # 4 heads of 8: recall a^T S, erase by b, write k v^T, read r^T S.
    "rwkv7": 4 * (4 * 2 * 8 * 8),
    # 4 heads of 8 over (1 + ... + 12) / 12 = 6.5 keys: score and value, a multiply-add a dimension each.
    "transformer": 4 * (2 * 2 * 8) * 13 // 2,
}
# Taps by channel, of which there are: 48 of v and 24 of q and k each; 64 of x and 8 of B and C each.
CONVOLUTIONS = {"gdn": 2 * 4 * (48 + 24 + 24), "mamba2": 2 * 4 * (64 + 8 + 8)}


@pytest.mark.parametrize("arch", registry.names())
@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_flops(arch, tied, tiny_config, tiny_tokens, monkeypatch):
    """What PyTorch counts less the core operation is the projections' part; the core's part is that derived by hand."""
    model = build_decoder(tiny_config(arch, depth=1, tied=tied), Parametrization(), seed=0)
    load, core = backends.load, {}

    def counting_load(operation, impl):
        run = getattr(load(operation, impl), {"gated_delta": "gated_delta_rule"}.get(operation, operation))

        def counted(*args, **settings):
            with FlopCounterMode(display=False) as counter:
                result = run(*args, **settings)
            core[operation] = counter.get_total_flops()
            return result

        return SimpleNamespace(**{run.__name__: counted})

    monkeypatch.setattr(backends, "load", counting_load)
    with FlopCounterMode(display=False) as counter:
        model(tiny_tokens(2, 12))
    projections = model.flops_per_token(12) - CORE[arch] - CONVOLUTIONS.get(arch, 0)
    assert core.keys() == {key for key in model.backends() if key != "linear_cross_entropy"}
    assert counter.get_total_flops() - sum(core.values()) == 2 * 12 * projections


@pytest.mark.parametrize("arch", registry.names())
def test_only_attention_grows_with_the_context(arch, tiny_config):
    model = on_meta(tiny_config(arch))
    grows = arch == "transformer"
    assert (model.state_bytes(64) > model.state_bytes(32)) == grows
    assert (model.flops_per_token(64) > model.flops_per_token(32)) == grows
    assert model.flops_per_token(32, training=True) == 3 * model.flops_per_token(32)


def test_a_wrong_parameter_formula_is_refused(tiny_config, monkeypatch):
    mixer = registry.find("gdn")
    monkeypatch.setattr(mixer, "parameter_count", lambda self: 5)
    with pytest.raises(GdnbenchError, match=r"gdn: states \d+ parameters, but has \d+"):
        build_decoder(tiny_config("gdn"), Parametrization(), seed=0)
