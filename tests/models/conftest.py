"""Small decoders of every architecture."""

import pytest
import torch

from gdnbench.models import ModelConfig, Parametrization, build_decoder

SMALL = {
    "mamba2": {"state_dim": 8},
    "rwkv7": {"decay_rank": 3, "rate_rank": 3, "value_rank": 3, "gate_rank": 5},
}


@pytest.fixture
def tiny_config():
    """Return a function that makes the configuration of a decoder of width 32, unless told otherwise."""

    def make(arch, **settings):
        if arch == "hybrid":
            settings = {"pattern": "rwkv7 gdn transformer mamba2", "depth": 4, **settings}
        defaults = {"width": 32, "base_width": 16, "depth": 2, "vocab_size": 11, "options": SMALL}
        return ModelConfig(arch=arch, **{**defaults, **settings})

    return make


@pytest.fixture
def tiny_decoder(tiny_config):
    """Return a function that builds such a decoder in float64 with all parameters moved off their start.

    Many start at zero or one, where whole branches are silent and gradients vanish.
    """

    def make(arch, *, table="mup_derived", perturb=0.1, **settings):
        model = build_decoder(tiny_config(arch, **settings), Parametrization(table=table), seed=0).double()
        rng = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += perturb * torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
        return model

    return make


@pytest.fixture
def tiny_tokens():
    """Return a function that draws tokens ``[batch, time]`` of the small vocabulary."""

    def draw(batch, time, seed=0):
        return torch.randint(11, (batch, time), generator=torch.Generator().manual_seed(seed))

    return draw
