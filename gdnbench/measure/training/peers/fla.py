"""Models of flash-linear-attention: Gated DeltaNet, Mamba-2, RWKV-7, with its defaults in all that sizes leave open."""

import contextlib
from collections.abc import Callable
from typing import Any

from gdnbench_kernels import backends, requirements
from gdnbench_kernels import fla as library
from gdnbench_kernels.ssd.impl import mamba_ssm
from torch import nn

from gdnbench.measure.training.floors import sequence_operation
from gdnbench.models.config import ModelConfig
from gdnbench.models.decoder import Decoder, on_meta

INSTALL = 'pip install "flash-linear-attention>=0.6,<0.7"'
INSTALL_MAMBA = "pip install --no-build-isolation mamba-ssm causal-conv1d"


def why_unavailable(config: ModelConfig, *, generates: bool = False) -> str | None:
    """Return why it cannot train this model here, or generate by it, or None.

    Without mamba-ssm its Mamba-2 falls back to plain PyTorch, which no one would pick: that is refused.
    """
    if reason := library.why_unavailable():
        return f"{reason}; {INSTALL}"
    operations = {sequence_operation(block.mixer) for block in on_meta(config).block_list()}
    (operation,) = operations if len(operations) == 1 else ("",)
    if (operation, config.block) not in MODELS:
        return "it has no such architecture"
    if operation == "ssd" and (reason := _mamba_lacks(generates=generates)):
        return f"{reason}; {INSTALL_MAMBA}"
    try:
        with mamba_ssm.bare_package() if operation == "ssd" else contextlib.nullcontext():
            from fla.layers import mamba2
    except Exception as error:
        return f"its models cannot be imported ({' '.join(str(error).split())}); {INSTALL}"
    if operation == "ssd" and not mamba2.is_fast_path_available:
        return "its Mamba-2 falls back to plain PyTorch in spite of mamba-ssm"
    return None


def _mamba_lacks(*, generates: bool) -> str | None:
    """Return what its Mamba-2 needs and is not there, or None."""
    if reason := backends.why_unavailable("ssd", "mamba_ssm"):
        return f"its Mamba-2 would fall back to plain PyTorch, since mamba-ssm is missing: {reason}"
    if not generates and requirements.version("causal-conv1d") is None:
        return "its Mamba-2 trains by a fused kernel of mamba-ssm that calls causal-conv1d, which is not installed"
    return None


def build(config: ModelConfig, *, fused_loss: bool = False, generates: bool = False) -> nn.Module:
    """Return the model of the same width, depth, heads, MLP and tied vocabulary."""
    library.pin()
    model = on_meta(config)
    common: dict[str, Any] = {
        "hidden_size": config.width,
        "num_hidden_layers": len(model.block_list()),
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied,
        "use_cache": generates,
    }
    if fused_loss:
        common |= {"fuse_cross_entropy": False, "fuse_linear_cross_entropy": True}
    return MODELS[sequence_operation(model.block_list()[0].mixer), config.block](model, common)


def what_ran() -> dict[str, str]:
    """Return versions, switches and what its dispatcher sent elsewhere."""
    other = {name: requirements.version(name) for name in ("transformers", "mamba-ssm", "causal-conv1d")}
    return {**library.what_ran(), **{name: found or "absent" for name, found in other.items()}}


def _gated_deltanet(model: Decoder, common: dict[str, Any]) -> nn.Module:
    from fla.models import GatedDeltaNetConfig, GatedDeltaNetForCausalLM

    block = model.block_list()[0]
    mixer: Any = block.mixer
    config = GatedDeltaNetConfig(
        num_heads=mixer.heads,
        num_v_heads=mixer.value_heads,
        head_dim=mixer.key_dim,
        expand_v=mixer.value_dim / mixer.key_dim,
        intermediate_size=model.config.mlp_width_of(0),
        **common,
    )
    return GatedDeltaNetForCausalLM(config)


def _mamba2(model: Decoder, common: dict[str, Any]) -> nn.Module:
    from fla.models import Mamba2Config, Mamba2ForCausalLM

    mixer: Any = model.block_list()[0].mixer
    config = Mamba2Config(
        head_dim=mixer.head_dim,
        state_size=mixer.state_dim,
        n_groups=mixer.groups,
        expand=mixer.inner // mixer.width,
        **common,
    )
    return Mamba2ForCausalLM(config)


def _rwkv7(model: Decoder, common: dict[str, Any]) -> nn.Module:
    from fla.models import RWKV7Config, RWKV7ForCausalLM

    block: Any = model.block_list()[-1]
    decay, rate, gate, value = block.mixer.ranks
    config = RWKV7Config(
        head_dim=block.mixer.head_dim,
        decay_low_rank_dim=decay,
        a_low_rank_dim=rate,
        gate_low_rank_dim=gate,
        v_low_rank_dim=value,
        intermediate_size=block.feedforward.hidden,
        **common,
    )
    return RWKV7ForCausalLM(config)


# Sequence operation and block of our model -> the library's.
MODELS: dict[tuple[str, str], Callable[[Decoder, dict[str, Any]], nn.Module]] = {
    ("gated_delta", "controlled"): _gated_deltanet,
    ("ssd", "native"): _mamba2,
    ("wkv7", "native"): _rwkv7,
}
