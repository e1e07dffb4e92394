"""mamba-ssm's Mamba-2 by its own generation, the step a CUDA graph (``utils.generation`` with ``cg=True``)."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from gdnbench_kernels import backends, requirements
from gdnbench_kernels.ssd.impl.mamba_ssm import bare_package
from torch import Tensor

from gdnbench.measure.decoding.case import DecodeCase
from gdnbench.measure.decoding.peers.hub import PRODUCES, mixer_call, weight_bytes
from gdnbench.measure.decoding.session import Gate
from gdnbench.measure.training.floors import sequence_operation
from gdnbench.measure.training.peers.fla import INSTALL_MAMBA
from gdnbench.models.config import ModelConfig
from gdnbench.models.decoder import on_meta

EXTENSION = "selective_scan_cuda"  # of Mamba-1 alone; the released package imports it all the same


def why_unavailable(config: ModelConfig) -> str | None:
    """Return why it cannot generate by this model here, or None.

    Without causal-conv1d it runs its convolutions on PyTorch, which the record says; without its compiled extension
    it generates all the same, since only Mamba-1 calls that.
    """
    operations = {sequence_operation(block.mixer) for block in on_meta(config).block_list()}
    if operations != {"ssd"} or config.block != "native":
        return "it has no such architecture"
    if reason := backends.why_unavailable("ssd", "mamba_ssm"):
        return f"{reason}; {INSTALL_MAMBA}"
    if requirements.version("transformers") is None:
        return "transformers is not installed, which its generation imports; pip install transformers"
    try:
        _modules()
    except Exception as error:
        return f"it cannot be imported ({' '.join(str(error).split())}); {INSTALL_MAMBA}"
    return None


def host(case: DecodeCase) -> "MambaHost":
    """Return its model with random weights."""
    return MambaHost(case)


class MambaHost:
    """Its ``MambaLMHeadModel`` of the sizes of ours."""

    def __init__(self, case: DecodeCase):
        models, self.generation = _modules()
        self.case, ours = case, on_meta(case.model)
        mixer: Any = ours.block_list()[0].mixer
        layer = {
            "layer": "Mamba2",
            "d_state": mixer.state_dim,
            "headdim": mixer.head_dim,
            "ngroups": mixer.groups,
            "expand": mixer.inner // mixer.width,
        }
        config = models.MambaConfig(
            d_model=case.model.width,
            n_layer=len(ours.block_list()),
            vocab_size=case.model.vocab_size,
            ssm_cfg=layer,
            pad_vocab_size_multiple=1,
            tie_embeddings=case.model.tied,
        )
        torch.manual_seed(case.seed)
        dtype = getattr(torch, case.dtype)
        self.model: Any = models.MambaLMHeadModel(config, device=case.device, dtype=dtype).eval()
        self.params_total = sum(parameter.numel() for parameter in self.model.parameters())
        tables = 1 if case.model.tied else 2
        self.params_non_embedding = self.params_total - tables * case.model.vocab_size * case.model.width

    def check(self) -> Gate:
        """Say whether tokens come out, as many as asked for."""
        found = self.generate(torch.ones(2, 8, dtype=torch.int64, device=self.case.device), 4)
        good = found.shape == (2, 12) and int(found.min()) >= 0 and int(found.max()) < self.case.model.vocab_size
        return Gate(correct=good, checked=PRODUCES, problem="" if good else f"it generated {list(found.shape)}")

    def generate(self, prompts: Tensor, tokens: int, mark: Callable[[], None] = lambda: None) -> Tensor:
        """Return prompts with greedy tokens behind; ``mark`` is called when each is chosen."""
        choose = self.generation.sample

        def marked(*logits: Any, **options: Any) -> Any:
            token = choose(*logits, **options)
            mark()
            return token

        with mock.patch.object(self.generation, "sample", marked):
            made = self.generation.decode(prompts, self.model, prompts.shape[1] + tokens, cg=True)
        found: Tensor = made.sequences
        return found

    def rows_fed(self, batch: int) -> int:
        """All."""
        return batch

    def session(self, prompts: Tensor, batch: int, generated: int) -> "MambaSession":
        """Return a session; the graph of another batch goes."""
        self.model._decoding_cache = None
        return MambaSession(self, prompts)

    def what_ran(self) -> Mapping[str, str]:
        """Return versions, and what stood in for what is missing."""
        names = ("mamba-ssm", "causal-conv1d", "transformers")
        found = {name: requirements.version(name) for name in names}
        convolution = "causal-conv1d" if found["causal-conv1d"] else "PyTorch, since causal-conv1d is not installed"
        return {**{name: version or "absent" for name, version in found.items()}, "convolution": convolution}


class MambaSession:
    """Calls of its ``decode`` on the same prompts; each feeds them again."""

    def __init__(self, host: MambaHost, prompts: Tensor):
        self.host, self.prompts, self.fed = host, prompts, len(prompts)
        # The graph holds for this many tokens and fewer; a longer row would make another one.
        host.generate(prompts, host.case.tokens + 1)

    def first(self) -> list[int]:
        """Generate one token."""
        found: list[int] = self.host.generate(self.prompts, 1)[:, -1].tolist()
        return found

    def begin(self) -> None:
        """Nothing: each call begins with the prompts."""

    def warm(self) -> None:
        """Nothing: the graph is there."""

    def stretch(self, tokens: int, mark: Callable[[], None]) -> None:
        """Feed the prompts, unmarked, and generate."""
        self.host.generate(self.prompts, tokens + 1, mark)

    def mixer(self) -> Callable[[], object] | None:
        """Return a call of the first layer's mixer; it needs causal-conv1d."""
        if requirements.version("causal-conv1d") is None:
            return None
        model = self.host.model
        return mixer_call(model.backbone.layers[0].mixer, model.lm_head.weight, self.prompts)

    def bytes(self) -> tuple[int, int | None]:
        """Return the bytes of the weights and of the states that the graph works on."""
        held = self.host.model._decoding_cache.inference_params.key_value_memory_dict.values()
        states = sum(part.numel() * part.element_size() for layer in held for part in layer)
        return weight_bytes(self.host.model), states


def _modules() -> tuple[Any, ModuleType]:
    """Import its models and its generation, without the package's own import and without its compiled extension."""
    if EXTENSION not in sys.modules and importlib.util.find_spec(EXTENSION) is None:
        sys.modules[EXTENSION] = ModuleType(EXTENSION)
    with bare_package():
        models = importlib.import_module("mamba_ssm.models.mixer_seq_simple")
        return models, importlib.import_module("mamba_ssm.utils.generation")
