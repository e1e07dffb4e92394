"""What reaches a caller: pieces in order, reasons of the end, and one line for what cannot be generated."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch

from gdnbench.errors import GdnbenchError
from gdnbench.inference import Engine, Sampling
from gdnbench.models.decoder import on_meta
from tests.inference.conftest import reference, small, text


def pieces(engine, *arguments, **options):
    found: dict[int, list] = {}
    for piece in engine.generate(*arguments, **options):
        found.setdefault(piece.prompt, []).append(piece)
    return found


def tokens_of(found):
    return [token for piece in found for token in piece.tokens]


@pytest.mark.parametrize("every", [1, 5])
def test_pieces_say_why_they_end(every, trained, engine):
    """By the number asked for, by a stop token, and by the row's capacity, looked at after every step or some."""
    prompts = [text(5).tolist(), text(30, 1).tolist()]
    expected = [reference(trained("gdn"), prompt, 20) for prompt in prompts]
    tested = engine("gdn", capacity=40)
    found = pieces(tested, prompts, 20, every=every)
    assert [tokens_of(found[0]), tokens_of(found[1])] == [expected[0], expected[1][:10]]
    assert [found[row][-1].finished for row in (0, 1)] == ["length", "capacity"]
    assert all(piece.finished is None for row in found.values() for piece in row[:-1])
    stopped = pieces(tested, prompts, 20, stop=[expected[0][3]], every=every)
    assert tokens_of(stopped[0]) == expected[0][: expected[0].index(expected[0][3]) + 1]
    assert stopped[0][-1].finished == "stop"


def test_listening_may_end_early(trained, engine):
    prompt = text(6).tolist()
    tested = engine("hybrid", batch_size=1)
    stream = tested.generate([prompt], 50)
    first = [next(stream).tokens[0] for _ in range(5)]
    stream.close()
    held = tested.tokens(0)
    rest = tested.complete(None, 10)[0]
    assert held[:6] == prompt
    assert held[6:][:5] == first
    assert held[6:] + rest == reference(trained("hybrid"), prompt, len(held) - 6 + 10)


@pytest.mark.parametrize("arch", ["gdn", "hybrid"])
def test_an_interruption_within_a_step_leaves_no_trace(arch, trained, engine, monkeypatch):
    tested, prompts, calls = engine(arch), [text(6).tolist(), text(3, 1).tolist()], []
    serving = tested.network.servings()[-1]
    step = serving.step

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(serving, "step", interrupted)
    found = {0: [], 1: []}
    with pytest.raises(KeyboardInterrupt):
        for piece in tested.generate(prompts, 30):
            found[piece.prompt] += piece.tokens
    assert [len(tokens) for tokens in found.values()] == [9, 9]
    # Prompts of fewer tokens come first in the batch.
    more = tested.complete(None, 10)
    expected = [reference(trained(arch), prompt, 19) for prompt in prompts]
    assert [found[0] + more[1], found[1] + more[0]] == expected


def test_a_row_begins_again_with_another_prompt(trained, engine):
    tested = engine("rwkv7", batch_size=2)
    tested.complete([text(9).tolist(), text(3).tolist()], 30)
    assert tested.complete([text(4, 2).tolist()], 12) == [reference(trained("rwkv7"), text(4, 2).tolist(), 12)]


MISTAKES = {
    "no prompt": (lambda e: e.generate([], 5), "at least one"),
    "an empty prompt": (lambda e: e.generate([[1], []], 5), "prompt 1: it is empty"),
    "more prompts than rows": (lambda e: e.generate([[1]] * 5, 5), "5 prompts: the batch has 4"),
    "a token too large": (lambda e: e.generate([[1, 27]], 5), "token 27 .* 0 to 26"),
    "a negative token": (lambda e: e.generate([[-1]], 5), "token -1"),
    "a stop that is no token": (lambda e: e.generate([[1]], 5, stop=[99]), "token 99"),
    "a prompt longer than the cache": (lambda e: e.generate([[1] * 340], 5), "340 tokens, of the 339"),
    "nothing to generate": (lambda e: e.generate([[1]], 0), "max tokens 0"),
    "nothing to continue": (lambda e: e.generate(None, 5), "no row was begun"),
    "prompts of no rows": (lambda e: e.prefill(torch.ones(2, 3, dtype=torch.long), slice(0, 1)), "1 row"),
    "nothing to save": (lambda e: e.save_state(Path("x")), "begun: none"),
}


@pytest.mark.parametrize(("call", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_said_at_once(call, said, engine):
    with pytest.raises(GdnbenchError, match=said) as error:
        call(engine("transformer"))
    assert "\n" not in str(error.value)


def test_a_full_row_takes_no_more(engine):
    tested = engine("transformer", batch_size=1, capacity=12)
    tested.complete([text(8).tolist()], 50)
    assert len(tested.tokens(0)) == 12
    with pytest.raises(GdnbenchError, match="row 0 holds"):
        tested.generate(None, 5)
    tested.step(torch.tensor([1]))
    with pytest.raises(GdnbenchError, match="row 0 holds 12 of the 12"):
        tested.step(torch.tensor([1]))


def test_measured_steps_wait_for_no_one_and_are_the_same(trained, engine):
    tested, prompt, seen = engine("mamba2", batch_size=2), text(7), []
    tested.prefill(prompt.expand(2, 7))
    tested.advance(12, each=seen.append)
    assert seen == list(range(12))
    assert [tested.tokens(row)[7:] for row in (0, 1)] == [reference(trained("mamba2"), prompt.tolist(), 13)] * 2


def test_memory_is_counted_and_refused_before_it_is_taken(engine):
    tested = engine("hybrid")
    counted, real = tested.demand.memory(tested.model), tested.memory()
    assert real.state == pytest.approx(counted.state, rel=0.05)
    assert real.weights == pytest.approx(counted.weights, rel=0.05)
    model, cpu = on_meta(small("transformer")), torch.device("cpu")
    huge = dataclasses.replace(tested.demand, batch_size=1 << 18, capacity=1 << 20)
    with pytest.raises(GdnbenchError, match=r"needs [\d,.]+ GiB of state.* fit: batch \d+ .* or capacity \d+") as error:
        huge.check(model, cpu)
    batch, capacity = map(int, re.findall(r"(?:batch|capacity) (\d+)", str(error.value))[2:])
    # What is said to fit does, and what is much more does not; a busy machine's free memory is no constant.
    for fitting in ({"batch_size": batch // 2}, {"capacity": capacity // 2}):
        dataclasses.replace(huge, **fitting).check(model, cpu)
    for more in ({"batch_size": batch * 3}, {"capacity": capacity * 3}):
        with pytest.raises(GdnbenchError, match="would fit"):
            dataclasses.replace(huge, **more).check(model, cpu)
    with pytest.raises(GdnbenchError, match="capacity 1, prefill"):
        Engine(tested.model, batch_size=1, capacity=1)


def test_sampled_tokens_of_a_row_are_its_own(engine):
    """The same prompt at the same place among others draws the same; its neighbours draw something else."""
    how = Sampling(temperature=1.5, seed=3)
    prompt = text(5).tolist()
    alone = engine("gdn", batch_size=1).complete([prompt], 30, sampling=how)
    among = engine("gdn").complete([prompt, text(9).tolist(), prompt], 30, sampling=how)
    assert among[0] == alone[0]
    assert among[2] != among[0]
    assert engine("gdn", batch_size=1).complete([prompt], 30, sampling=Sampling(temperature=1.5, seed=4)) != alone
