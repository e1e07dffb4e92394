"""Hugging Face's Llama with PyTorch's scaled dot product attention."""

from typing import Any

from gdnbench_kernels import requirements
from torch import nn

from gdnbench.measure.training.floors import sequence_operation
from gdnbench.models.config import ModelConfig
from gdnbench.models.decoder import on_meta

INSTALL = 'pip install "transformers>=5.11,<6"'


def why_unavailable(config: ModelConfig, *, generates: bool = False) -> str | None:
    """Return why it cannot train this model here, or generate by it: it is missing, or the model is no Llama."""
    try:
        from transformers import LlamaForCausalLM  # noqa: F401
    except Exception as error:
        return f"transformers cannot be imported ({' '.join(str(error).split())}); {INSTALL}"
    operations = {sequence_operation(block.mixer) for block in on_meta(config).block_list()}
    return None if operations == {"attention"} and config.block == "controlled" else "it has no such architecture"


def build(config: ModelConfig, *, fused_loss: bool = False, generates: bool = False) -> nn.Module:
    """Return a Llama of the same width, depth, heads, MLP and tied vocabulary."""
    from transformers import LlamaConfig, LlamaForCausalLM

    mixer: Any = on_meta(config).block_list()[0].mixer
    options: dict[str, Any] = {
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width_of(0),
        "num_hidden_layers": config.depth,
        "num_attention_heads": mixer.heads,
        "num_key_value_heads": mixer.kv_heads,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied,
        "attn_implementation": "sdpa",
        "use_cache": generates,
    }
    return LlamaForCausalLM(LlamaConfig(**options))


def what_ran() -> dict[str, str]:
    """Return the library's version and its attention."""
    return {"transformers": str(requirements.version("transformers")), "attention": "sdpa"}
