"""The mixer under check: its file, and small decoders with it, whose parameters are moved off their start."""

import functools
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gdnbench.errors import GdnbenchError
from gdnbench.models import Parametrization
from gdnbench.models.config import ModelConfig
from gdnbench.models.decoder import Decoder
from gdnbench.models.mixer import Mixer
from gdnbench.models.parametrization import apply

VOCABULARY = 32
TABLE = "mup_derived"
# Zeros and ones hide whole branches; noise of this size leaves decays and gates what they are.
NOISE = 0.1


@dataclass(frozen=True)
class Subject:
    """A mixer by name, with the file that it was read from and the sizes it is checked at.

    Attributes:
        file: as findings name it.
        arch: name of the mixer.
        base_width: width at which its constants hold; it is checked at twice that.
        options: fields of the mixer's own Options.
    """

    file: Path
    arch: str
    base_width: int = 32
    options: Mapping[str, Any] = field(default_factory=dict)

    def config(self, **changes: Any) -> ModelConfig:
        """Return the configuration of a decoder of two blocks at twice the base width."""
        values: dict[str, Any] = {
            "arch": self.arch,
            "width": 2 * self.base_width,
            "base_width": self.base_width,
            "depth": 2,
            "vocab_size": VOCABULARY,
            "options": {self.arch: self.options} if self.options else {},
        }
        return ModelConfig(**{**values, **changes})

    def decoder(
        self, *, noise: float = NOISE, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any
    ) -> Decoder:
        """Return a started decoder; a parameter without a proper role starts as its constructor left it."""
        model = _started(self.config(**changes), seed).to(dtype)
        rng = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=rng, dtype=torch.float64).to(dtype), alpha=noise)
        return model

    @functools.cached_property
    def exact(self) -> Decoder:
        """The decoder in float64 that most checks look at; none changes it."""
        return self.decoder()

    def tokens(self, batch: int, time: int, seed: int = 0) -> Tensor:
        """Return random tokens ``[batch, time]``."""
        return torch.randint(VOCABULARY, (batch, time), generator=torch.Generator().manual_seed(seed))

    def line_of(self, error: BaseException) -> str:
        """Return the last line of the file that an error went through, in words."""
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == self.file.resolve()]
        if frames:
            return f"line {frames[-1].lineno}, in {frames[-1].name}"
        if isinstance(error, SyntaxError) and error.lineno is not None:
            return f"line {error.lineno}"
        return "no line of it"


def mixers(model: Decoder) -> list[Mixer]:
    """Return the mixers of a decoder, first to last."""
    return [block.mixer for block in model.block_list()]


def _started(config: ModelConfig, seed: int) -> Decoder:
    model = Decoder(config)
    with torch.device("meta"):
        base = Decoder(config.at_base())
    rows = {role: entry for mixer in mixers(model) for role, entry in mixer.role_rows.items()}
    try:
        model.rules = apply(model, base, Parametrization(table=TABLE), seed=seed, role_rows=rows)
    except GdnbenchError:
        _start_by_roles(model, seed)
    return model


@torch.no_grad()
def _start_by_roles(model: Decoder, seed: int) -> None:
    """Start what has a start of its own, where roles are not fit for a table (which is another check's finding)."""
    for module in model.modules():
        for name, role in getattr(module, "roles", {}).items():
            parameter = getattr(module, name)
            if role.init is not None:
                rng = torch.Generator().manual_seed(seed + parameter.numel())
                parameter.copy_(role.init.sample(tuple(parameter.shape), rng))
