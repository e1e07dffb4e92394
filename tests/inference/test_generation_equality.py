"""What the engine generates is what the decoder generates step by step, whatever else is in the batch."""

import copy

import pytest
import torch
from gdnbench_kernels.fused_linear.impl import torch as implementation

from gdnbench.inference import Engine
from gdnbench.models import registry
from gdnbench.models.serving import served
from tests.inference.conftest import ARCHS, LETTERS, reference, small, text, train

every_architecture = pytest.mark.parametrize("arch", ARCHS)


def test_every_baseline_is_here():
    assert {*registry.names(), "hybrid"} == {*ARCHS}


@every_architecture
def test_greedy_tokens_are_those_of_single_steps(arch, trained, engine):
    """In one batch: prompts of one token, shorter and longer than a convolution, and longer than a chunk."""
    prompts = [text(length, seed).tolist() for seed, length in enumerate((1, 2, 5, 66))]
    found = engine(arch).complete(prompts, 256)
    assert [len(tokens) for tokens in found] == [256] * 4
    for prompt, tokens, count in zip(prompts, found, (9, 9, 256, 9), strict=True):
        assert tokens[:count] == reference(trained(arch), prompt, count)


@every_architecture
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=["float32", "bfloat16"]
)
def test_logits_of_given_tokens(arch, dtype, bound, trained, engine):
    tokens = text(60)
    with torch.no_grad():
        exact = trained(arch).double()(tokens[None])[0][0]
    tested = engine(arch, dtype=dtype, batch_size=2)
    found = [tested.prefill(tokens[:20].expand(2, 20)).clone()]
    found += [tested.step(token.expand(2)).clone() for token in tokens[20:]]
    error = (torch.stack(found, 1).double() - exact[19:]).norm() / exact[19:].expand(2, -1, -1).norm()
    assert 0 < error < bound


@pytest.mark.parametrize("block", ["controlled", "native"])
@every_architecture
def test_rows_of_any_length_have_the_logits_of_the_whole_sequence(arch, block):
    """In float64, both forms of the block, heads that grow, an untied head and a table with factors."""
    pattern = {"pattern": "rwkv7 gdn transformer"} if arch == "hybrid" else {}
    changes = {"block": block, "geometry": "fixed_head", "tied": False, "width": 64, **pattern}
    model = train(small(arch, **changes), steps=1).double()
    tokens, lengths = torch.stack([text(12, seed) for seed in range(3)]), (1, 3, 8)
    with torch.no_grad():
        exact = model(tokens)[0]
    tested = Engine(model, batch_size=3, capacity=13, dtype=torch.float64)
    for row, length in enumerate(lengths):
        tested.prefill(tokens[row : row + 1, :length], slice(row, row + 1))
    for step in range(4):
        places = torch.tensor(lengths) + step
        found = tested.step(tokens[range(3), places])
        torch.testing.assert_close(found, exact[range(3), places], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("by_step", [False, True], ids=["mixers in their own forms", "mixers by their steps"])
@every_architecture
def test_every_layer_adds_up_what_the_one_before_hands_on_in_parts(arch, by_step, trained, engine, monkeypatch):
    """As our kernels do at batches above 2, where they may."""
    if by_step:
        for block in trained(arch).block_list():
            monkeypatch.setattr(type(block.mixer), "serve", served)
    tokens = text(12)
    engines = [engine(arch, batch_size=2) for _ in range(2)]
    for tested in engines:
        tested.prefill(tokens[:4].expand(2, 4))
    expected = [engines[0].step(token.expand(2)).clone() for token in tokens[4:]]
    taken = []

    def in_parts(given, weight, wanted, run=implementation.fused_linear):
        made = run(given, weight, wanted)
        taken.append(wanted.parts)
        return made._replace(y=torch.stack([0.25 * made.y, 0.75 * made.y])) if wanted.parts else made

    monkeypatch.setattr(implementation, "fused_linear", in_parts)
    found = [engines[1].step(token.expand(2)).clone() for token in tokens[4:]]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert any(taken)


@every_architecture
def test_long_batches_are_fed_in_parts(arch, trained, engine):
    prompts = torch.stack([text(40, seed) for seed in range(4)])
    whole, parts = engine(arch).prefill(prompts), engine(arch, prefill_tokens=16).prefill(prompts)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)


@every_architecture
def test_a_row_that_was_done_first_goes_on_where_it_stopped(arch, trained, engine):
    """The others run on for long; what the row is fed meanwhile leaves no trace."""
    prompts = [text(5).tolist(), text(9, 1).tolist()]
    model = trained(arch)
    expected = [reference(model, prompt, 30) for prompt in prompts]
    tested = engine(arch)
    stop = expected[0][6]
    ended = expected[0].index(stop) + 1
    found = tested.complete(prompts, 20, stop=[stop])
    assert found[0] == expected[0][:ended]
    assert found[1] == expected[1][: expected[1].index(stop) + 1 if stop in expected[1][:20] else 20]
    more = tested.complete(None, 5)
    assert [one + other for one, other in zip(found, more, strict=True)] == [
        tokens[: len(one) + 5] for tokens, one in zip(expected, found, strict=True)
    ]


def test_memories_in_bfloat16_change_little(trained, engine):
    tokens = text(60)
    with torch.no_grad():
        exact = trained("gdn")(tokens[None])[0][0, -1]
    tested = engine("gdn", batch_size=1, state_dtype=torch.bfloat16)
    tested.prefill(tokens[None, :20])
    for token in tokens[20:]:
        logits = tested.step(token[None])[0].clone()
    assert 0 < (logits - exact).norm() / exact.norm() < 0.05
    assert tested.memory().state < engine("gdn", batch_size=1).memory().state


def test_a_model_can_be_taken_over_twice(trained):
    """As measurements do, which make one engine after the other of a model."""
    model = trained("hybrid")
    expected = Engine(copy.deepcopy(model), batch_size=1, capacity=40).complete([[1, 2, 3]], 20)
    Engine(model, batch_size=2, capacity=20).complete([[1, 2, 3]], 5)
    assert Engine(model, batch_size=1, capacity=40).complete([[1, 2, 3]], 20) == expected


def test_letters_are_the_vocabulary():
    assert int(text(500).max()) < len(LETTERS)
