"""A state goes through a file and on elsewhere with the same tokens; one of another model is refused in one line."""

import pytest
import torch

from gdnbench import checked_file
from gdnbench.errors import GdnbenchError
from gdnbench.inference import Engine, Greedy, Sampling
from gdnbench.inference.saved import MAGIC
from tests.inference.conftest import ARCHS, small, text, train


@pytest.mark.parametrize(
    ("arch", "how"), [*((arch, Greedy()) for arch in ARCHS), ("hybrid", Sampling(temperature=1.2, seed=5))]
)
def test_going_on_elsewhere(arch, how, engine, tmp_path):
    """In other rows of another batch, with another capacity, beside rows that went on."""
    prompts = [text(3).tolist(), text(20, 1).tolist()]
    whole = engine(arch, batch_size=2).complete(prompts, 30, sampling=how)
    first = engine(arch, capacity=40, batch_size=2)
    begun = first.complete(prompts, 12, sampling=how)
    first.save_state(tmp_path / "state")
    second = engine(arch, capacity=100, batch_size=5)
    second.complete([text(9, 3).tolist()] * 5, 3)
    assert second.load_state(tmp_path / "state", [3, 1]) == [3, 1]
    found = second.complete(None, 18, sampling=how)
    assert [begun[0] + found[3], begun[1] + found[1]] == whole
    # What saved it goes on, too.
    more = first.complete(None, 5, sampling=how)
    assert [one + two for one, two in zip(begun, more, strict=True)] == [tokens[:17] for tokens in whole]


def test_a_state_of_given_tokens_goes_on_by_its_logits(engine, tmp_path):
    tokens = text(20)
    first, second = (engine("transformer", batch_size=1) for _ in "ab")
    first.prefill(tokens[None, :10])
    for token in tokens[10:]:
        first.step(token[None])
    first.save_state(tmp_path / "state")
    second.load_state(tmp_path / "state")
    assert second.complete(None, 12) == engine("transformer").complete([tokens.tolist()], 12)


def test_a_state_in_bfloat16_is_not_changed_by_its_file(engine, tmp_path):
    options = {"batch_size": 1, "dtype": torch.bfloat16, "state_dtype": torch.bfloat16}
    whole = engine("hybrid", **options).complete([text(5).tolist()], 40)
    first, second = engine("hybrid", **options), engine("hybrid", **options)
    begun = first.complete([text(5).tolist()], 20)
    first.save_state(tmp_path / "state")
    second.load_state(tmp_path / "state")
    assert begun[0] + second.complete(None, 20)[0] == whole[0]


@pytest.fixture
def state(engine, tmp_path):
    tested = engine("gdn", model_id="one")
    tested.complete([text(5).tolist(), text(6).tolist()], 5)
    tested.save_state(tmp_path / "state")
    return tmp_path / "state"


def damaged(state):
    state.write_bytes(state.read_bytes()[:-9] + b"123456789")


def other_version(state):
    state.write_bytes(state.read_bytes().replace(MAGIC, MAGIC.replace(b"1", b"9")))


def other_shape(state):
    content = checked_file.load(state, magic=MAGIC)
    memory = content["rows"][1]["state"][0]["mixer"]["memory"]
    content["rows"][1]["state"][0]["mixer"]["memory"] = memory[..., :3]
    checked_file.save(state, content, magic=MAGIC)


REFUSED = {
    "another architecture": ({"arch": "mamba2"}, None, "arch 'gdn'; this one has 'mamba2'"),
    "another configuration": ({"depth": 1}, None, "depth 2; this one has 1"),
    "other weights": ({"model_id": "two"}, None, "of one; this is two"),
    "less room": ({"capacity": 9}, None, "holds 10 tokens; the capacity is 9"),
    "fewer rows": ({"batch_size": 1}, None, "it holds 2 rows"),
    "damaged": ({}, damaged, "damaged"),
    "another version": ({}, other_version, "no state that this version reads"),
    "another shape": ({}, other_shape, "block 0, mixer"),
    "nothing": ({}, lambda state: state.unlink(), "no such file"),
}


@pytest.mark.parametrize(("changes", "spoil", "said"), REFUSED.values(), ids=REFUSED)
def test_refused(changes, spoil, said, state):
    options = {"batch_size": 2, "capacity": 50, "model_id": "one", **changes}
    arch, depth = options.pop("arch", "gdn"), options.pop("depth", 2)
    if spoil:
        spoil(state)
    tested = Engine(train(small(arch, depth=depth), steps=0), **options)
    with pytest.raises(GdnbenchError, match=said) as error:
        tested.load_state(state)
    assert "\n" not in str(error.value)
    with pytest.raises(GdnbenchError, match="no row was begun"):
        tested.generate(None, 1)
