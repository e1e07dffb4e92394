"""A decoder gives the same logits at once, token by token and in parts, and never looks ahead."""

import copy
import io

import pytest
import torch

from gdnbench.models import registry

WITH_HYBRID = [*registry.names(), "hybrid"]
every_model = pytest.mark.parametrize(
    ("arch", "block", "geometry"),
    [(a, b, g) for a in WITH_HYBRID for b in ("controlled", "native") for g in ("paper", "fixed_head")],
)


@pytest.fixture
def decoder(arch, block, geometry, tiny_decoder):
    # The native hybrid leaves mamba2 out: see test_native_hybrid_starts_finite.
    pattern = {"pattern": "rwkv7 gdn transformer"} if (arch, block) == ("hybrid", "native") else {}
    return tiny_decoder(arch, block=block, geometry=geometry, tied=geometry == "paper", **pattern)


def saved_and_loaded(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file)


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@every_model
@torch.no_grad()
def test_steps_equal_the_whole_sequence(decoder, tiny_tokens):
    tokens = tiny_tokens(2, 9)
    expected, nothing = decoder(tokens)
    assert nothing is None
    state, logits = decoder.init_state(2), []
    for t in range(9):
        step, state = decoder.step(tokens[:, t], state)
        logits.append(step)
    assert_same(torch.stack(logits, 1), expected)


@every_model
@torch.no_grad()
def test_parts_equal_the_whole_sequence(decoder, tiny_tokens):
    """Prefixes shorter than the convolution (4), a state through a file, then a part of the sequence and steps."""
    tokens = tiny_tokens(2, 9)
    expected, _ = decoder(tokens)
    for prefix in (1, 2, 5):
        first, state = decoder(tokens[:, :prefix], decoder.init_state(2))
        state = saved_and_loaded(state)
        middle, state = decoder(tokens[:, prefix:7], state)
        seventh, state = decoder.step(tokens[:, 7], state)
        eighth, _ = decoder(tokens[:, 8:], saved_and_loaded(state))
        assert_same(torch.cat([first, middle, seventh[:, None], eighth], 1), expected)


@every_model
@torch.no_grad()
def test_a_cloned_state_branches(decoder, tiny_tokens):
    tokens = tiny_tokens(2, 6)
    _, state = decoder(tokens, decoder.init_state(2))
    branch = copy.deepcopy(state)
    for other in range(3):
        decoder.step(torch.full((2,), other), state := copy.deepcopy(state))
    expected, _ = decoder(torch.cat([tokens, tokens[:, :1]], 1))
    assert_same(decoder.step(tokens[:, 0], branch)[0], expected[:, -1])


@every_model
@torch.no_grad()
def test_the_future_is_not_seen(decoder, tiny_tokens):
    # Longer than a chunk; the first 66 logits must not change by a bit.
    tokens = tiny_tokens(1, 70)
    changed = tokens.clone()
    changed[:, 66] = (tokens[:, 66] + 1) % 11
    before, after = decoder(tokens)[0], decoder(changed)[0]
    assert torch.equal(before[:, :66], after[:, :66])
    assert not torch.equal(before[:, 66:], after[:, 66:])


@every_model
@torch.no_grad()
def test_sequences_of_a_batch_do_not_mix(decoder, tiny_tokens):
    tokens = tiny_tokens(3, 5)
    assert_same(decoder(tokens)[0][1:2], decoder(tokens[1:2])[0])


@every_model
@torch.no_grad()
def test_every_past_token_is_seen(decoder, tiny_tokens):
    # The first token must reach the last logits: through the mixer, not the residual stream of its own position.
    tokens = tiny_tokens(1, 8)
    changed = tokens.clone()
    changed[:, 0] = (tokens[:, 0] + 1) % 11
    assert not torch.equal(decoder(tokens)[0][:, -1], decoder(changed)[0][:, -1])


@every_model
def test_one_token_can_be_trained_on(decoder, tiny_tokens):
    logits, _ = decoder(tiny_tokens(2, 1))
    logits.square().mean().backward()
    assert logits.shape == (2, 1, 11)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("arch", registry.names())
@torch.no_grad()
def test_backends_agree_and_are_named(arch, backend, tiny_decoder, tiny_tokens):
    default, other = tiny_decoder(arch), tiny_decoder(arch, backend=backend)
    assert_same(other(tiny_tokens(2, 70))[0], default(tiny_tokens(2, 70))[0])
    assert set(other.backends().values()) == {backend}


def test_native_hybrid_starts_finite(tiny_decoder):
    model = tiny_decoder("hybrid", pattern="mamba2 rwkv7", block="native", depth=4)
    assert [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()] == []


@pytest.mark.parametrize("arch", registry.names())
def test_bfloat16_autocast_is_near_float32(arch, tiny_decoder, tiny_tokens):
    # As runs of dtype bfloat16 train: weights stay float32.
    model, tokens = tiny_decoder(arch).float(), tiny_tokens(2, 70)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, _ = model(tokens)
    logits.float().square().mean().backward()
    exact = model(tokens)[0]
    assert (logits.float() - exact).norm() < 0.05 * exact.norm()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
