"""Native blocks have what their architecture's authors give them; controlled blocks differ in the mixer only."""

import pytest
import torch
from gdnbench_baselines import transformer
from torch.nn import functional as F

from gdnbench.models import registry
from gdnbench.models.decoder import on_meta


def outside_mixers(model):
    return {name: tuple(p.shape) for name, p in model.named_parameters() if ".mixer." not in name}


def test_controlled_blocks_differ_in_the_mixer_only(tiny_config):
    shapes = [outside_mixers(on_meta(tiny_config(arch))) for arch in registry.names()]
    assert all(other == shapes[0] for other in shapes)
    assert "blocks.1.feedforward.down_proj.weight" in shapes[0]


def test_native_gdn_is_the_controlled_one(tiny_config):
    native, controlled = (on_meta(tiny_config("gdn", block=block)) for block in ("native", "controlled"))
    assert [n for n, _ in native.named_parameters()] == [n for n, _ in controlled.named_parameters()]


def test_native_mamba2_has_no_mlp_and_twice_the_depth(tiny_config):
    blocks = on_meta(tiny_config("mamba2", block="native", depth=3)).blocks
    assert len(blocks) == 6
    assert all(block.feedforward is None and block.feedforward_norm is None for block in blocks)


def test_native_transformer_has_what_gdn_has(tiny_config):
    native, controlled = (
        on_meta(tiny_config("transformer", block=block)).blocks[0].mixer for block in ("native", "controlled")
    )
    assert [conv.size for conv in native.convs] == [4, 4, 4]
    assert len(controlled.convs) == 0
    for extra in ("q_norm", "k_norm", "o_norm", "g_proj"):
        assert getattr(native, extra) is not None
        assert getattr(controlled, extra) is None


def test_native_options_yield_to_the_configurations(tiny_config):
    mixer = (
        on_meta(tiny_config("transformer", block="native", options={"transformer": {"conv_size": 0}})).blocks[0].mixer
    )
    assert len(mixer.convs) == 0
    assert mixer.q_norm is not None


@torch.no_grad()
def test_native_rwkv7_mixes_channels_by_squared_relu(tiny_decoder):
    layer = tiny_decoder("rwkv7", block="native").blocks[1].feedforward
    x = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # RWKV-7, section 4.3, one position after another.
    expected = []
    for t in range(5):
        before = x[0, t - 1] if t else torch.zeros(32, dtype=torch.float64)
        mixed = x[0, t] + (before - x[0, t]) * layer.x_k
        expected.append(layer.value.weight @ (layer.key.weight @ mixed).clamp_min(0) ** 2)
    # The value projection's table factor is 1: it is a hidden matrix.
    torch.testing.assert_close(layer(x)[0][0], torch.stack(expected))
    assert layer.key.weight.shape == (4 * 32, 32)


@pytest.fixture
def rotate(tiny_config):
    mixer = on_meta(tiny_config("transformer", options={"transformer": {"rope_theta": 100.0}})).blocks[0].mixer

    def turned(x, position):
        x = x[None, None, None].expand(1, 1, 4, 8)
        return transformer._rotate(x, mixer._rotation(x, position, position + 1))[0, 0, 0]

    return turned


def test_rotary_scores_depend_on_the_distance_only(rotate):
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = [rotate(q, 5 + shift) @ rotate(k, 2 + shift) for shift in (0, 1, 40, 3000)]
    torch.testing.assert_close(torch.stack(scores), scores[0].expand(4))
    assert abs(rotate(q, 5) @ rotate(k, 3) - scores[0]) > 1e-3


def test_rotary_positions_turn_complex_numbers(rotate):
    x = torch.randn(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # Su et al. 2021, section 3.2: pair j turns by p theta^(-j / 4); a pair is a coordinate of each half.
    angles = 7 * 100.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
    turned = torch.complex(x[:4], x[4:]) * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(rotate(x, 7), torch.cat([turned.real, turned.imag]))
    torch.testing.assert_close(rotate(x, 0), x)


def test_grouped_heads_share_keys(tiny_decoder, tiny_tokens):
    model = tiny_decoder("transformer", options={"transformer": {"kv_heads": 2}})
    assert model.blocks[0].mixer.k_proj.weight.shape == (2 * 8, 32)
    expected, _ = model(tiny_tokens(1, 6))
    _, state = model(tiny_tokens(1, 5), model.init_state(1))
    torch.testing.assert_close(model.step(tiny_tokens(1, 6)[:, 5], state)[0], expected[:, 5])
    assert model.state_bytes(5) == 2 * (2 * 5 * 2 * 8) * 4


@pytest.mark.parametrize("options", [{"conv_values": False}, {"value_heads": 12}, {"negative_eigenvalues": True}])
@torch.no_grad()
def test_gdn_options_keep_steps_and_counts(options, tiny_decoder, tiny_tokens):
    model, tokens = tiny_decoder("gdn", options={"gdn": options}), tiny_tokens(2, 7)
    _, state = model(tokens[:, :6], model.init_state(2))
    torch.testing.assert_close(model.step(tokens[:, 6], state)[0], model(tokens)[0][:, 6])


@torch.no_grad()
def test_mamba2_groups_share_b_and_c(tiny_decoder, tiny_tokens):
    model, tokens = tiny_decoder("mamba2", options={"mamba2": {"state_dim": 4, "groups": 2}}), tiny_tokens(2, 7)
    assert model.blocks[0].mixer.b_proj.weight.shape == (8, 32)
    _, state = model(tokens[:, :6], model.init_state(2))
    torch.testing.assert_close(model.step(tokens[:, 6], state)[0], model(tokens)[0][:, 6])


@torch.no_grad()
def test_convolution_is_pytorchs(tiny_decoder):
    conv = tiny_decoder("mamba2").blocks[0].mixer.x_conv
    x = torch.randn(2, 6, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    padded = F.conv1d(x.mT, conv.weight[:, None], conv.bias, padding=3, groups=64)
    torch.testing.assert_close(conv(x, impl="torch")[0], F.silu(padded[..., :6].mT))
