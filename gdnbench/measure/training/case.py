"""What one measurement of training is: a model, who trains it, sizes and machine, with an id made of them."""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gdnbench.configuration import NO_IDENTITY, digest, to_mapping
from gdnbench.models.config import DEFAULT_BACKEND, ModelConfig

OURS = "gdnbench"


@dataclass(frozen=True, kw_only=True)
class TrainingCase:
    """One measurement. How a model is trained (backends, settings, timed steps) is not part of the id: a set holds one
    record of an implementation, the last one.

    Attributes:
        impl: ``gdnbench`` for our own step (``gdnbench_...`` for another way of it), or a peer
            (`gdnbench.measure.training.peers.PEERS`).
        model: the model; a peer builds its own of the same sizes.
        batch: sequences of a step.
        seq_len: tokens of a sequence.
        steps: timed steps.
        dtype: ``bfloat16`` (autocast over float32 weights) or ``float32``.
        device: ``cuda`` or ``cpu``.
        seed: seeds weights and tokens.
        caches: ``cold`` (nothing is compiled beforehand) or ``warm`` (what the machine has compiled is used).
        settings: how our own step runs: fields of `gdnbench.plan.spec.RunSpec` that say so; nothing for a peer.
    """

    impl: str
    model: ModelConfig
    batch: int
    seq_len: int
    steps: int = field(metadata=NO_IDENTITY)
    dtype: Literal["bfloat16", "float32"]
    device: str
    seed: int = 0
    caches: Literal["cold", "warm"] = "cold"
    settings: Mapping[str, Any] = field(default_factory=dict, metadata=NO_IDENTITY)

    @property
    def ours(self) -> bool:
        """Whether it is the project's own step."""
        return self.impl.startswith(OURS)

    def spec(self) -> dict[str, Any]:
        """Return the case as a record holds it; architecture and block are at the top level, too."""
        return {"arch": self.model.arch, "block": self.model.block, **to_mapping(self)}

    @functools.cached_property
    def run_id(self) -> str:
        """A readable name that ends in 10 digits of the hash of the case."""
        sizes = f"w{self.model.width}-{self.batch}x{self.seq_len}"
        parts = (self.model.arch, self.model.block, self.impl, sizes, self.dtype, self.caches)
        plain = dataclasses.replace(self, model=dataclasses.replace(self.model, backend=DEFAULT_BACKEND))
        return "-".join([*parts, digest(plain)[:10]])

    @property
    def label(self) -> str:
        """Architecture, block and impl in words."""
        return f"{self.model.arch} ({self.model.block}) {self.impl}"
