"""RWKV-7 starts as its authors' training code (BlinkDL/RWKV-LM, RWKV-v7, and flash-linear-attention) starts it."""

import pytest
import torch

from gdnbench.models import ModelConfig, Parametrization, build_decoder

WIDTH, DEPTH, HEAD = 64, 4, 16


@pytest.fixture(scope="module")
def blocks():
    config = ModelConfig(arch="rwkv7", width=WIDTH, depth=DEPTH, block="native")
    return build_decoder(config, Parametrization(), seed=0).blocks


n = torch.arange(WIDTH, dtype=torch.float64)
line = n / (WIDTH - 1)
zigzag = (n % HEAD) * 2 / (HEAD - 1) - 1
zigzag = zigzag * zigzag.abs()


def by_layer(layer):
    early, late = 1 - layer / DEPTH, layer / (DEPTH - 1)
    shift = {f"x_{c}": 1 - (n / WIDTH) ** (p * early) for c, p in zip("rwkvag", (0.2, 0.9, 0.7, 0.7, 0.9, 0.2))}
    return {
        **shift,
        "decay.bias": -5.5 + 6 * line ** (1 + late**0.3) + 2.5 * zigzag,
        "rate.bias": -0.19 + 0.3 * zigzag + 0.4 * (line - 0.5),
        "value_mix.bias": 0.73 - 0.4 * (line - 0.5),
        "k_k": 0.71 - 0.1 * (line - 0.5),
        "k_a": torch.full((WIDTH,), 1.02),
        "r_k": torch.full((WIDTH,), -0.04),
        "norm_weight": torch.full((WIDTH,), ((layer + 1) / DEPTH) ** 0.7),
        "norm_bias": torch.zeros(WIDTH),
    }


@pytest.mark.parametrize("name", by_layer(0))
def test_curves(name, blocks):
    for layer in range(DEPTH):
        if layer == 0 and name == "value_mix.bias":
            assert blocks[0].mixer.value_mix is None
        else:
            # float32 powers of a curve that crosses zero
            actual, expected = blocks[layer].mixer.get_parameter(name).double(), by_layer(layer)[name].double()
            torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "std"),
    [
        ("mixer.r_proj", WIDTH**-0.5),
        ("mixer.k_proj", 0.1 * WIDTH**-0.5),
        ("mixer.v_proj", WIDTH**-0.5),
        ("mixer.o_proj", 0.0),
        ("mixer.decay.down", 0.0),
        ("mixer.gate.down", 0.0),
        # An orthogonal matrix of few rows and many columns has unit rows.
        ("mixer.decay.up", 0.1 * WIDTH**-0.5),
        ("mixer.gate.up", 0.1 * WIDTH**-0.5),
        # One of 4d rows and d columns has unit columns, of entries (4d)^-1/2.
        ("feedforward.key", (4 * WIDTH) ** -0.5),
        ("feedforward.value", 0.0),
    ],
)
def test_sizes_of_matrices(name, std, blocks):
    weight = blocks[1].get_submodule(name).weight
    assert weight.std().item() == pytest.approx(std, rel=0.06)
