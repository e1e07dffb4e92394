"""Hugging Face's Llama over a static cache, its step compiled: what transformers does by itself with such a cache."""

import torch

from gdnbench.measure.decoding.case import DecodeCase
from gdnbench.measure.decoding.peers.hub import HubHost
from gdnbench.measure.training.peers import hf_llama
from gdnbench.models.config import ModelConfig


def why_unavailable(config: ModelConfig) -> str | None:
    """Return why it cannot generate by this model here, or None."""
    return hf_llama.why_unavailable(config, generates=True)


def host(case: DecodeCase) -> HubHost:
    """Return its model; ``generate`` compiles the step with ``torch.compile`` where the cache is static, on a GPU."""
    torch.manual_seed(case.seed)
    model = hf_llama.build(case.model, generates=True)
    return HubHost(case, model, _what_ran, options={"cache_implementation": "static"})


def _what_ran() -> dict[str, str]:
    return {**hf_llama.what_ran(), "cache": "static", "step": "compiled by generate on a GPU"}
