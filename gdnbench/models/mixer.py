"""The interface of a sequence mixer: one small file an architecture, one class that implements this.

A mixer sees the whole sequence for training, and one token with a state for generation; both must agree.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from gdnbench.configuration import from_mapping
from gdnbench.models.config import ModelConfig
from gdnbench.models.norm import LayerNorm, RMSNorm
from gdnbench.models.serving import Serving, Slots, served

State = dict[str, Tensor]
"""What a mixer carries from token to token. A state is consumed by the call that continues it: clone it to branch.

A recurrent memory is called ``memory``: generation may keep it in a type of its own.
"""

Shared = dict[str, Tensor]
"""What earlier layers hand to later ones within one forward pass (RWKV-7's first values); most mixers ignore it."""

Chosen = TypeVar("Chosen")


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """A mixer without options of its own."""


class StatefulLayer(nn.Module, ABC):
    """A layer ``[B, T, D] -> [B, T, D]`` that can also be run token by token with a state."""

    @abstractmethod
    def forward(
        self, x: Tensor, state: State | None = None, shared: Shared | None = None
    ) -> tuple[Tensor, State | None]:
        """Map ``x [B, T, D]``. With a state, continue from it and return the new one; without, return None."""

    @abstractmethod
    def init_state(self, batch_size: int) -> State:
        """Return the state before the first token, on the device and in the type of the parameters."""

    @abstractmethod
    def state_bytes(self, context: int, element_size: int) -> int:
        """Return the bytes of one sequence's state after ``context`` tokens; an element has ``element_size`` bytes."""

    @abstractmethod
    def parameter_count(self) -> int:
        """Return the number of parameters, by formula."""

    @abstractmethod
    def flops_per_token(self, context: int) -> int:
        """Return the forward FLOPs of a token, averaged over a sequence of ``context`` tokens; a multiply-add is 2."""

    def step(self, x: Tensor, state: State, shared: Shared | None = None) -> tuple[Tensor, State]:
        """Map one token ``x [B, D]`` from ``state``; by default a sequence of length 1."""
        y, new_state = self.forward(x[:, None], state, shared)
        assert new_state is not None
        return y[:, 0], new_state

    def serve(self, norm: RMSNorm | LayerNorm, slots: Slots, *, factor: float = 1.0) -> Serving:
        """Return this layer, behind its norm and with its output times ``factor``, as generation runs it.

        By default it runs `step`; a layer that is faster in another form returns that (`gdnbench.models.serving`). Its
        matrices may be packed for it, after which `forward` computes the same with them.
        """
        return served(self, norm, slots, factor=factor)


class Mixer(StatefulLayer):
    """A sequence mixer. Its constructor takes ``(config, layer)`` and declares every parameter with a role.

    It names the operations of `gdnbench_kernels` that it calls with `uses`, and calls each with the backend that
    ``self.impl[operation]`` then holds. What it computes faster together than module by module it computes apart where
    `gdnbench.models.apart` says so, so that the coordinate check sees what every module puts out.

    Class attributes:
        Options: frozen dataclass of the fields that ``ModelConfig.options[arch]`` may set.
        native_options: options that the native block sets.
        native_feedforward: ``swiglu``, ``channel_mix`` or ``none``: what follows the mixer in the native block.
        native_norm: ``rms`` or ``layer``: the norms of the native block (and, with ``layer``, of the embedding).
        native_depth: how many native blocks stand for one controlled block.
        role_rows: rows of its own for the parametrization tables (see ``parametrization/tables.yaml``).
    """

    Options: ClassVar[type] = NoOptions
    native_options: ClassVar[Mapping[str, Any]] = {}
    native_feedforward: ClassVar[str] = "swiglu"
    native_norm: ClassVar[Literal["rms", "layer"]] = "rms"
    native_depth: ClassVar[int] = 1
    role_rows: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.layer = layer
        self.impl: dict[str, str] = {}

    def uses(self, config: ModelConfig, *operations: str) -> None:
        """Choose the configured backends of these operations."""
        self.impl |= {operation: config.backend_of(operation) for operation in operations}

    def shares(self, x: Tensor) -> Shared:
        """Return what all layers of this kind read in a pass from the start of ``x [B, T, D]``: computed once, for all.

        Unlike a layer's own work, it is not compiled and not computed again.
        """
        return {}

    def probes(self, x: Tensor) -> dict[str, Tensor]:
        """Return inner quantities of ``x [B, T, D]`` that no module puts out, for the coordinate check."""
        return {}

    @classmethod
    def options(cls, config: ModelConfig, arch: str, expected: type[Chosen]) -> Chosen:
        """Return this mixer's options: the class's defaults, the native block's, then the configuration's."""
        native = cls.native_options if config.block == "native" else {}
        values = {**native, **config.options.get(arch, {})}
        return from_mapping(expected, values, f"model.options.{arch}")

    def _empty(self, batch_size: int, *shape: int) -> Tensor:
        """Return zeros ``[batch_size, *shape]`` on the device and in the type of the parameters."""
        reference = next(self.parameters())
        return torch.zeros(batch_size, *shape, device=reference.device, dtype=reference.dtype)
