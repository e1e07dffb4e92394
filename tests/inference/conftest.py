"""Small decoders of every architecture that have learned some text, and the reference they are compared with."""

import copy
import random
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from gdnbench.inference import Engine
from gdnbench.models import Decoder, ModelConfig, Parametrization, build_decoder
from tests.runs.tiny import WORDS

LETTERS = "abcdefghijklmnopqrstuvwxyz "
OPTIONS = {
    "gdn": {"heads": 2},
    "transformer": {"heads": 2},
    "mamba2": {"state_dim": 8, "head_dim": 8},
    "rwkv7": {"head_dim": 8, "decay_rank": 4, "rate_rank": 4, "value_rank": 4, "gate_rank": 4},
}
ARCHS = (*OPTIONS, "hybrid")


def small(arch: str, **changes: object) -> ModelConfig:
    """Return the configuration of a decoder of two blocks over `LETTERS`."""
    hybrid = {"pattern": "gdn transformer"} if arch == "hybrid" else {}
    options = {
        name: OPTIONS[name] for name in OPTIONS if name == arch or (arch == "hybrid" and name in hybrid["pattern"])
    }
    sizes = {"width": 32, "base_width": 32, "depth": 2, "vocab_size": len(LETTERS), "init_std": 0.1}
    return ModelConfig(arch=arch, options=options, embedding_std=0.1, **{**sizes, **hybrid, **changes})


def text(length: int, seed: int = 0) -> Tensor:
    """Return the letters of random words."""
    words = " ".join(random.Random(seed).choices(WORDS, k=length))
    return torch.tensor([LETTERS.index(letter) for letter in words[:length]])


def train(config: ModelConfig, steps: int = 50, device: str = "cpu") -> Decoder:
    """Return a decoder after some steps on such text: its likeliest tokens are no near-ties any more."""
    model = build_decoder(config, Parametrization(table="sp"), seed=0).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokens = text(steps * 8 * 33).view(steps, 8, 33).to(device)
    for batch in tokens:
        optimizer.zero_grad()
        model.loss(batch[:, :-1], batch[:, 1:]).backward()
        optimizer.step()
    return model


@torch.no_grad()
def reference(model: Decoder, prompt: Sequence[int], count: int) -> list[int]:
    """Return ``count`` greedy tokens, prompt and all token by token through `Decoder.step`."""
    device = next(model.parameters()).device
    state, found = model.init_state(1), [*prompt]
    for place in range(len(prompt) + count - 1):
        logits, state = model.step(torch.tensor([found[place]], device=device), state)
        if place >= len(prompt) - 1:
            found.append(int(logits.argmax(-1)))
    return found[len(prompt) :]


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Models this small only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def trained() -> Callable[[str], Decoder]:
    """Return a function that returns a copy of the trained decoder of an architecture."""
    kept: dict[str, Decoder] = {}

    def get(arch: str) -> Decoder:
        if arch not in kept:
            kept[arch] = train(small(arch))
        return copy.deepcopy(kept[arch])

    return get


@pytest.fixture
def engine(trained) -> Callable[..., Engine]:
    """Return a function that makes an engine of a trained decoder, with room for 4 rows of 340 tokens."""

    def make(arch: str, **options: object) -> Engine:
        return Engine(trained(arch), **{"batch_size": 4, "capacity": 340, **options})

    return make
