"""What a user would pick instead: models of other libraries, each imported in its own file only, on request."""

import importlib
from dataclasses import dataclass
from typing import Protocol, cast

from torch import nn

from gdnbench.models.config import ModelConfig


class Library(Protocol):
    """A file of this folder."""

    def why_unavailable(self, config: ModelConfig, *, generates: bool = False) -> str | None:
        """Return why it cannot train this model here, or generate by it, and how to install what is missing."""
        ...

    def build(self, config: ModelConfig, *, fused_loss: bool = False, generates: bool = False) -> nn.Module:
        """Return the library's model of these sizes: called with input_ids and labels, it returns a ``loss``.

        Args:
            config: our model of the same sizes.
            fused_loss: with the library's loss that never has all logits at once, where it has one.
            generates: with a state that it keeps; it is not trained then.
        """
        ...

    def what_ran(self) -> dict[str, str]:
        """Return what decided which kernels ran."""
        ...


@dataclass(frozen=True)
class Peer:
    """A way to train by a library: its file here, whether `torch.compile` is used, and which loss."""

    file: str
    compiled: bool = False
    fused_loss: bool = False

    def library(self) -> Library:
        """Import the file."""
        return cast(Library, importlib.import_module(f"{__name__}.{self.file}"))


PEERS = {
    "hf_llama_compiled": Peer("hf_llama", compiled=True),
    "fla_eager": Peer("fla"),
    "fla_compiled": Peer("fla", compiled=True),
    "fla_fused_ce": Peer("fla", fused_loss=True),
    "fla_compiled_fused_ce": Peer("fla", compiled=True, fused_loss=True),
}
