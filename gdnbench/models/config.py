"""What a decoder is: its configuration, and how its dimensions grow with its width."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from gdnbench_kernels.backends import OPERATIONS

from gdnbench.errors import GdnbenchError, WidthError, unknown

MLP_STEP = 16  # MLP widths are multiples of this, in the ratio rule and in the budget solver
DEFAULT_BACKEND = "torch"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A decoder. All base constants are those at ``base_width``; a parametrization table scales them from there.

    Attributes:
        arch: name of a mixer (`gdnbench.models.registry.names`), or ``hybrid`` with a ``pattern``.
        width: residual width d.
        base_width: width d0 at which the base constants hold.
        depth: number of blocks of the controlled form; a native form may multiply it.
        vocab_size: number of tokens.
        tied: whether the head shares the embedding's weight.
        block: ``controlled`` (the same block for all mixers) or ``native`` (the architecture's own block).
        geometry: ``paper`` (head dims grow at fixed heads) or ``fixed_head`` (heads grow at fixed head dims).
        mlp_ratio: MLP width over model width at the base width, rounded to steps of 16; constant over widths.
        mlp_width: overrides the ratio, for all layers or one number a layer (set by the budget solver).
        mlp_rule: ``ratio``, or ``paper``: 8d/3 rounded up to a multiple of 256 at every width, as released.
        init_std: standard deviation of hidden matrices at the base width.
        embedding_std: standard deviation of the embedding at every width.
        norm_eps: epsilon of the RMS norms.
        pattern: for ``hybrid``: ``"gdn:0.8 transformer:0.2"`` (shares of the depth, in order) or a cycle of names.
        options: fields of the mixers' own ``Options``, by mixer name.
        backend: backend of all operations, by name (`gdnbench_kernels.backends`), or operation -> name, where those
            that are not named get ``torch``.
    """

    arch: str
    width: int
    base_width: int = 64
    depth: int = 2
    vocab_size: int = 256
    tied: bool = True
    block: Literal["controlled", "native"] = "controlled"
    geometry: Literal["paper", "fixed_head"] = "paper"
    mlp_ratio: float = 8 / 3
    mlp_width: int | tuple[int, ...] | None = None
    mlp_rule: Literal["ratio", "paper"] = "ratio"
    init_std: float = 0.02
    embedding_std: float = 0.02
    norm_eps: float = 1e-6
    pattern: str = ""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    backend: str | Mapping[str, str] = DEFAULT_BACKEND

    def __post_init__(self) -> None:
        for name in ("width", "base_width", "depth", "vocab_size"):
            if getattr(self, name) < 1:
                raise GdnbenchError(f"model.{name}: expected a positive number, got {getattr(self, name)}")
        if (self.arch == "hybrid") != bool(self.pattern):
            raise GdnbenchError(
                f"model.pattern: goes with arch hybrid and only with it; got {self.arch!r}, {self.pattern!r}"
            )
        for operation in () if isinstance(self.backend, str) else self.backend:
            if operation not in OPERATIONS:
                raise unknown("operation of model.backend", operation, OPERATIONS)

    def backend_of(self, operation: str) -> str:
        """Return the backend of an operation of `gdnbench_kernels`, by name."""
        return self.backend if isinstance(self.backend, str) else self.backend.get(operation, DEFAULT_BACKEND)

    @property
    def multiplicity(self) -> float:
        """Width over base width, m = d / d0."""
        return self.width / self.base_width

    def at_base(self) -> "ModelConfig":
        """Return the same decoder at its base width."""
        widths = self.mlp_width
        if isinstance(widths, tuple):
            widths = tuple(max(1, round(width / self.multiplicity)) for width in widths)
        elif widths is not None:
            widths = max(1, round(widths / self.multiplicity))
        return dataclasses.replace(self, width=self.base_width, mlp_width=widths)

    def head_dim(self, what: str, at_base: int) -> int:
        """Return a head dimension at this width: proportional to it in the paper's geometry, else constant."""
        return self.scaled(what, at_base) if self.geometry == "paper" else at_base

    def head_count(self, what: str, at_base: int) -> int:
        """Return a number of heads at this width: constant in the paper's geometry, else proportional to it."""
        return self.scaled(what, at_base) if self.geometry == "fixed_head" else at_base

    def scaled(self, what: str, at_base: int) -> int:
        """Return ``at_base * width / base_width``; raise where that is no whole number."""
        value = Fraction(at_base * self.width, self.base_width)
        if value.denominator != 1:
            raise WidthError(f"width {self.width}: {what} would be {float(value):g}, which is no whole number")
        return int(value)

    def mlp_width_of(self, layer: int, *, ratio: float | None = None) -> int:
        """Return the MLP width of a layer; ``ratio`` overrides the configured ratio (a native block's own)."""
        if isinstance(self.mlp_width, tuple):
            return self.mlp_width[layer]
        if self.mlp_width is not None:
            return self.mlp_width
        if self.mlp_rule == "paper":
            return -(-8 * self.width // 3 // 256) * 256
        base = max(1, round((ratio or self.mlp_ratio) * self.base_width / MLP_STEP)) * MLP_STEP
        return self.scaled("the MLP width", base)


def parse_backend(text: str) -> str | dict[str, str]:
    """Return what ``triton`` or ``gated_delta=triton,attention=cudnn`` stands for as a `ModelConfig.backend`."""
    if "=" not in text:
        return text
    chosen = {}
    for entry in text.split(","):
        operation, mark, name = (part.strip() for part in entry.partition("="))
        if not (operation and mark and name):
            raise GdnbenchError(f"backend {text!r}: {entry!r} is not operation=name, such as gated_delta=triton")
        chosen[operation] = name
    return chosen
