"""The measurement of generation: what it times, and that what it times is generation."""

import pytest
import torch

from gdnbench.inference import Engine
from gdnbench.measure import decode, memory
from gdnbench.measure.decode import WARM_UP, measure
from gdnbench.models import ModelConfig, Parametrization, build_decoder

OPTIONS = {
    "gdn": {"heads": 2},
    "transformer": {"heads": 2},
    "mamba2": {"state_dim": 8, "head_dim": 8},
    "rwkv7": {"head_dim": 8, "decay_rank": 4, "rate_rank": 4, "value_rank": 4, "gate_rank": 4},
}
ARCHS = [*OPTIONS, "hybrid"]


def decoder(arch):
    config = ModelConfig(
        arch=arch,
        width=32,
        base_width=32,
        depth=2,
        vocab_size=64,
        pattern="gdn:0.5 transformer:0.5" if arch == "hybrid" else "",
        geometry="paper" if arch in ("gdn", "transformer", "hybrid") else "fixed_head",
        init_std=0.2,
        embedding_std=0.2,
        options={name: OPTIONS[name] for name in OPTIONS if arch in (name, "hybrid")},
    )
    return build_decoder(config, Parametrization(table="sp"), seed=0)


def prompt(batch, length):
    return torch.randint(64, (batch, length), generator=torch.Generator().manual_seed(0))


def bytes_of(state):
    """All bytes of a nested state's numbers; a counter of the position is none of them."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size() if state.is_floating_point() else 0
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else ()
    return sum(map(bytes_of, parts))


@pytest.mark.parametrize("arch", ARCHS)
def test_state_bytes_are_those_of_the_state(arch):
    model = decoder(arch)
    for length in (5, 12):
        speed = measure(model, prompt(2, length), tokens=2)
        with torch.no_grad():
            _, state = model(prompt(2, length), model.init_state(2))
        assert speed.state_bytes == bytes_of(state)


def test_only_attention_grows_with_its_context():
    def sizes(arch):
        return [measure(decoder(arch), prompt(1, length), tokens=1).state_bytes for length in (8, 16)]

    assert sizes("transformer")[1] == 2 * sizes("transformer")[0]
    for arch in ("gdn", "mamba2", "rwkv7"):
        assert len(set(sizes(arch))) == 1


@pytest.mark.parametrize("arch", ARCHS)
def test_a_prompt_at_once_is_the_same_as_step_by_step(arch):
    model = decoder(arch).double()
    tokens = prompt(2, 13)
    with torch.no_grad():
        whole, _ = model(tokens, model.init_state(2))
        state, columns = model.init_state(2), []
        for column in tokens.T:
            logits, state = model.step(column, state)
            columns.append(logits)
    torch.testing.assert_close(whole, torch.stack(columns, dim=1), rtol=1e-9, atol=1e-10)


def test_numbers_fit_together():
    beats = []
    speed = measure(decoder("gdn"), prompt(3, 8), tokens=20, beat=beats.append)
    assert speed.tokens_per_s == pytest.approx(3 * 1e3 / speed.ms_per_token_p50)
    assert 0 < speed.ms_per_token_p50 <= speed.ms_per_token_p99
    assert speed.prefill_tokens_per_s > 0
    assert len(beats) == WARM_UP + 20
    assert beats == sorted(beats)
    assert 0 <= beats[0] < beats[-1] <= 1


def test_every_timed_step_feeds_the_token_that_was_chosen(monkeypatch):
    engines = []
    monkeypatch.setattr(decode, "Engine", lambda *args, **kwargs: engines.append(Engine(*args, **kwargs)) or engines[0])
    measure(decoder("gdn"), prompt(1, 8), tokens=5)
    held = engines[0].tokens(0)
    assert len(held) == 8 + WARM_UP + 5 + 1
    assert held[:8] == prompt(1, 8)[0].tolist()
    with torch.no_grad():
        logits, _ = decoder("gdn")(torch.tensor([held]))
    assert logits[0, 7:-1].argmax(-1).tolist() == held[8:]


def test_peak_memory_sees_an_allocation():
    memory.reset_peak("cpu")
    before = memory.peak_gib("cpu")
    block = torch.ones(2**26)
    assert memory.peak_gib("cpu") >= before + 0.2
    del block
