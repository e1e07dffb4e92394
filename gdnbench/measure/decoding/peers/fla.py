"""flash-linear-attention's models by its ``generate``: Gated DeltaNet, Mamba-2, RWKV-7."""

import contextlib
from typing import Any

import torch
from gdnbench_kernels import requirements
from gdnbench_kernels.ssd.impl import mamba_ssm

from gdnbench.measure.decoding.case import DecodeCase
from gdnbench.measure.decoding.peers.hub import HubHost
from gdnbench.measure.training.peers import fla
from gdnbench.models.config import ModelConfig


def why_unavailable(config: ModelConfig) -> str | None:
    """Return why it cannot generate by this model here, or None."""
    return fla.why_unavailable(config, generates=True)


def host(case: DecodeCase) -> HubHost:
    """Return its model."""
    torch.manual_seed(case.seed)
    # Its Mamba-2 imports operators of mamba-ssm, whose own import wants parts that they do not.
    with mamba_ssm.bare_package() if requirements.version("mamba-ssm") else contextlib.nullcontext():
        model: Any = fla.build(case.model, generates=True)
    first = model.base_model.layers[0]
    return HubHost(case, model, fla.what_ran, mixer=getattr(first, "attn", None) or first.mixer)
