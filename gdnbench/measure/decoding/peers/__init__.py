"""What a user would pick instead for generation: other libraries, each imported in its own file only, on request."""

import importlib
from dataclasses import dataclass
from typing import Protocol, cast

from gdnbench.measure.decoding.case import DecodeCase
from gdnbench.measure.decoding.session import Host
from gdnbench.models.config import ModelConfig


class Library(Protocol):
    """A file of this folder."""

    def why_unavailable(self, config: ModelConfig) -> str | None:
        """Return why the library cannot generate by this model here, with the command that installs what is missing."""
        ...

    def host(self, case: DecodeCase) -> Host:
        """Return the library's model of the case's sizes, with random weights."""
        ...


@dataclass(frozen=True)
class Peer:
    """A way to generate by a library: its file here."""

    file: str

    def library(self) -> Library:
        """Import the file."""
        return cast(Library, importlib.import_module(f"{__name__}.{self.file}"))


PEERS = {
    "fla_generate": Peer("fla"),
    "mamba_ssm_graph": Peer("mamba_ssm"),
    "hf_llama_static": Peer("hf_llama"),
}
