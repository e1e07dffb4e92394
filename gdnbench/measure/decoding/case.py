"""What one measurement of generation is: a model, who runs it, batch, context and machine, with an id made of them."""

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from gdnbench.configuration import NO_IDENTITY, digest, to_mapping
from gdnbench.inference.engine import PREFILL_TOKENS
from gdnbench.inference.memory import Demand
from gdnbench.measure.training.case import OURS
from gdnbench.models.config import DEFAULT_BACKEND, ModelConfig

UNTIMED = 4  # tokens before the timed ones


@dataclass(frozen=True, kw_only=True)
class DecodeCase:
    """One measurement: a prompt of ``context`` tokens in each of ``batch`` rows, and what is generated after it.

    How it is done (backends, tokens, rows prefilled) is not part of the id: a set holds one record of an
    implementation at a point, the last one.

    Attributes:
        impl: ``gdnbench`` for our own engine (``gdnbench_...`` for another way of it), or a peer
            (`gdnbench.measure.decoding.peers.PEERS`).
        size: name of the model's size.
        model: the model; a peer builds its own of the same sizes.
        batch: rows that are generated at once.
        context: tokens of each prompt.
        dtype: type of weights, activations and caches.
        state_dtype: type of recurrent memories in our own engine, and in floors; a peer chooses itself.
        device: ``cuda`` or ``cpu``.
        tokens: timed tokens of a stretch.
        repeats: timed stretches.
        seed: seeds weights and prompts.
    """

    impl: str
    size: str
    model: ModelConfig
    batch: int
    context: int
    dtype: Literal["bfloat16", "float32"]
    state_dtype: Literal["bfloat16", "float32"] = field(metadata=NO_IDENTITY)
    device: str
    tokens: int = field(metadata=NO_IDENTITY)
    repeats: int = field(metadata=NO_IDENTITY)
    seed: int = 0

    @property
    def ours(self) -> bool:
        """Whether it is the project's own engine."""
        return self.impl.startswith(OURS)

    @property
    def generated(self) -> int:
        """Tokens that follow the prompt in a row: the untimed ones, and one more than are timed in each stretch."""
        return UNTIMED + self.repeats * (self.tokens + 1)

    @property
    def capacity(self) -> int:
        """Tokens that a row comes to hold."""
        return self.context + self.generated

    @property
    def length(self) -> int:
        """Tokens that a row holds in the middle of what is timed: where floors are counted."""
        return self.context + UNTIMED + self.repeats * (self.tokens + 1) // 2

    def demand(self) -> Demand:
        """Return what our engine sets memory aside for."""
        return Demand(
            batch_size=self.batch,
            capacity=self.capacity,
            dtype=getattr(torch, self.dtype),
            state_dtype=getattr(torch, self.state_dtype),
            prefill_tokens=PREFILL_TOKENS,
        )

    @property
    def process(self) -> tuple[str, ...]:
        """What cases have in common that one process measures."""
        return self.model.arch, self.model.block, self.size, self.impl

    def spec(self) -> dict[str, Any]:
        """Return the case as a record holds it; architecture and block are at the top level, too."""
        return {"arch": self.model.arch, "block": self.model.block, **to_mapping(self)}

    @functools.cached_property
    def run_id(self) -> str:
        """A readable name that ends in 10 digits of the hash of the case."""
        parts = (self.model.arch, self.model.block, self.impl, self.size, f"{self.batch}x{self.context}", self.dtype)
        plain = dataclasses.replace(self, model=dataclasses.replace(self.model, backend=DEFAULT_BACKEND))
        return "-".join([*parts, digest(plain)[:10]])

    @property
    def label(self) -> str:
        """Architecture, block, impl and place on the grid in words."""
        where = f"batch {self.batch}, context {self.context:,}"
        return f"{self.model.arch} ({self.model.block}) {self.size} {self.impl}, {where}"
