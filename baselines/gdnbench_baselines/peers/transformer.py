"""Llama as Hugging Face has it."""

from typing import Any

import torch

from gdnbench.errors import GdnbenchError
from gdnbench.measure.parity.peer import LayerState, Names, Peer, only

WEIGHTS: Names = {
    "model.embed_tokens.weight": "embedding.weight",
    "model.layers.*.input_layernorm.weight": "blocks.*.mixer_norm.weight",
    "model.layers.*.self_attn.q_proj.weight": "blocks.*.mixer.q_proj.weight",
    "model.layers.*.self_attn.k_proj.weight": "blocks.*.mixer.k_proj.weight",
    "model.layers.*.self_attn.v_proj.weight": "blocks.*.mixer.v_proj.weight",
    "model.layers.*.self_attn.o_proj.weight": "blocks.*.mixer.o_proj.weight",
    "model.layers.*.post_attention_layernorm.weight": "blocks.*.feedforward_norm.weight",
    "model.layers.*.mlp.gate_proj.weight": "blocks.*.feedforward.gate_proj.weight",
    "model.layers.*.mlp.up_proj.weight": "blocks.*.feedforward.up_proj.weight",
    "model.layers.*.mlp.down_proj.weight": "blocks.*.feedforward.down_proj.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "head.weight",
}


def _random(config_class: Any) -> Any:
    return config_class(
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=256,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        tie_word_embeddings=False,
    )


def _ours(model: Any) -> dict[str, Any]:
    config = model.config
    only(config, hidden_act="silu", attention_bias=False, mlp_bias=False)
    rope = config.rope_parameters
    if rope["rope_type"] != "default":
        raise GdnbenchError(f"{config.model_type}: rotary positions of type {rope['rope_type']!r}; ours are 'default'")
    return {
        "width": config.hidden_size,
        "depth": config.num_hidden_layers,
        "vocab_size": config.vocab_size,
        "tied": config.tie_word_embeddings,
        "mlp_width": config.intermediate_size,
        "norm_eps": config.rms_norm_eps,
        "options": {
            "heads": config.num_attention_heads,
            "kv_heads": config.num_key_value_heads,
            "head_dim": config.head_dim,
            "rope_theta": rope["rope_theta"],
        },
    }


def _state(cache: Any, layer: int) -> LayerState:
    keys, values = cache.layers[layer].keys, cache.layers[layer].values
    length = torch.tensor(keys.shape[2])
    return {"mixer": {"k": keys.transpose(1, 2), "v": values.transpose(1, 2), "length": length}, "feedforward": {}}


PEERS = (
    Peer(
        library="transformers",
        model="transformers.LlamaForCausalLM",
        model_type="llama",
        random=_random,
        ours=_ours,
        weights=WEIGHTS,
        state=_state,
    ),
)
