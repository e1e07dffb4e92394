"""A peer: another library's model of an architecture, and how its configuration, weights and state are ours."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from gdnbench_kernels import requirements
from torch import Tensor

from gdnbench.errors import GdnbenchError

INSTALL = {
    "transformers": 'pip install "gdnbench[parity]"',
    "flash-linear-attention": 'pip install "gdnbench[fla]"',
}

Names = Mapping[str, str | tuple[str, ...]]
"""Parameters of theirs and those of ours that they hold; see `Peer.weights`."""

LayerState = dict[str, dict[str, Tensor]]
"""The state of one block as `Decoder.init_state` has it: by layer (mixer, feedforward), then by name."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """What a file of `gdnbench_baselines.peers` says of one peer; the file has the architecture's name.

    Attributes:
        library: the distribution that it comes from.
        model: the class with a language model's head, as ``module.Class``.
        model_type: what ``config.json`` of its checkpoints calls it.
        random: configuration class -> the configuration of the model that gets random weights.
        settings: what is set in every configuration, because ours has nothing like its default.
        ours: the peer's model -> fields of our `ModelConfig` (``options`` are those of the architecture); raises where
            ours does not have what a configuration asks for.
        weights: a parameter of theirs -> ours, or several of ours that follow each other along the first dimension.
            ``*`` stands for the number of a layer. What neither model has (a tied head, say) is left out.
        state: their cache, number of a layer -> the state of that block as ours has it.
        plain: functions of the class's module that call other packages where these are installed; what is compared is
            their own form, without the packages.
        arguments: what its forward pass is given besides tokens and state.
        cache: what its forward pass calls the state that it takes and returns.
        dtypes: in which types it computes.
        kernels: for kernels that need a GPU, the module of `gdnbench_kernels` that knows the library.
        tolerances: type -> largest relative errors of activations and of gradients, where its own are larger.
        not_covered: what of it the comparison leaves out, in words.
    """

    library: str
    model: str
    model_type: str
    random: Callable[[Any], Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    ours: Callable[[Any], dict[str, Any]]
    weights: Names
    state: Callable[[Any, int], LayerState]
    plain: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    cache: str = "past_key_values"
    dtypes: tuple[str, ...] = ("float32", "float64", "bfloat16")
    kernels: ModuleType | None = None
    tolerances: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    not_covered: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Library and class, as a table names it."""
        return f"{self.library} {self.model.rpartition('.')[2]}"

    def why_unavailable(self, device: str, dtype: str) -> str | None:
        """Return why it cannot be compared with here, or None."""
        if self.kernels is not None and device != "cuda":
            return f"{self.name}: its kernels need an NVIDIA GPU (--device cuda)"
        if dtype not in self.dtypes:
            return f"{self.name}: does not compute in {dtype}, but in {', '.join(self.dtypes)}"
        if requirements.version(self.library) is None:
            return f"{self.name}: {self.library} is not installed; {INSTALL.get(self.library, '')}".removesuffix("; ")
        if self.kernels is not None and (reason := self.kernels.why_unavailable()):
            return f"{self.name}: {reason}"
        try:
            self.model_class()
        except (ImportError, AttributeError) as error:
            return f"{self.name}: cannot be imported ({' '.join(str(error).split())})"
        return None

    def what_ran(self) -> dict[str, str]:
        """Return its version, and what decided which kernels ran."""
        version = {self.library: str(requirements.version(self.library))}
        return version if self.kernels is None else {**version, **self.kernels.what_ran()}

    def model_class(self) -> Any:
        """Import the class, with its library's switches pinned."""
        if self.kernels is not None:
            self.kernels.pin()
        module, _, name = self.model.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        home = importlib.import_module(found.__module__)
        for function in self.plain:
            setattr(home, function, inspect.unwrap(getattr(home, function)))
        return found

    def load(self, folder: Path) -> Any:
        """Return the model of a checkpoint folder in Hugging Face's format; every weight must be there, and no other.

        Raises:
            GdnbenchError: the folder is no such checkpoint, or not of this model.
        """
        cls = self.model_class()
        importlib.import_module("transformers.utils.logging").disable_progress_bar()
        config = self._settled(cls.config_class.from_pretrained(folder))
        try:
            model, about = cls.from_pretrained(
                folder, config=config, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:  # of the file, in whatever library that reads it
            raise GdnbenchError(f"{folder}: does not load as {self.name}: {' '.join(str(error).split())}") from error
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if found := about.get(kind):
                raise GdnbenchError(f"{folder}: {kind.replace('_', ' ')} for {self.name}: {', '.join(map(str, found))}")
        return model

    def build(self) -> Any:
        """Return its model with weights as its library starts them."""
        cls = self.model_class()
        return cls(self._settled(self.random(cls.config_class)))

    def _settled(self, config: Any) -> Any:
        for name, value in self.settings.items():
            setattr(config, name, value)
        return config


def only(config: Any, **wanted: Any) -> None:
    """Raise `GdnbenchError` unless the settings of a peer's configuration have the values (one of a tuple's) given."""
    for name, value in wanted.items():
        found = getattr(config, name)
        if found not in (value if isinstance(value, tuple) else (value,)):
            raise GdnbenchError(f"{config.model_type}: {name} is {found!r}; ours has no such thing, only {value!r}")


def architectures() -> list[str]:
    """Return the architectures that have peers."""
    return sorted(module.name for module in pkgutil.iter_modules(_folder().__path__))


def peers_of(arch: str) -> tuple[Peer, ...]:
    """Return the peers of an architecture, the first one first."""
    found: tuple[Peer, ...] = importlib.import_module(f"{_folder().__name__}.{arch}").PEERS
    return found


def _folder() -> Any:
    # By name, as `gdnbench.models.registry` finds the baselines.
    return importlib.import_module("gdnbench_baselines.peers")
