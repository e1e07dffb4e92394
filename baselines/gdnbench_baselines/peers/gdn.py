"""Gated DeltaNet of flash-linear-attention, and that of OLMo Hybrid in plain PyTorch."""

from typing import Any

import torch
from gdnbench_kernels import fla

from gdnbench.errors import GdnbenchError
from gdnbench.measure.parity.peer import LayerState, Names, Peer, only
from gdnbench_baselines.peers import FLA_TOLERANCES

# What both name alike, in a block.
MIXER = {
    **{f"{name}_proj.weight": f"{name}_proj.weight" for name in "qkvgabo"},
    **{name: name for name in ("A_log", "dt_bias", "o_norm.weight")},
}
MLP = {f"{name}_proj.weight": f"{name}_proj.weight" for name in ("gate", "up", "down")}
FLA_WEIGHTS: Names = {
    "model.embeddings.weight": "embedding.weight",
    "model.layers.*.attn_norm.weight": "blocks.*.mixer_norm.weight",
    **{f"model.layers.*.attn.{theirs}": f"blocks.*.mixer.{ours}" for theirs, ours in MIXER.items()},
    **{f"model.layers.*.attn.{name}_conv1d.weight": f"blocks.*.mixer.{name}_conv.weight" for name in "qkv"},
    "model.layers.*.mlp_norm.weight": "blocks.*.feedforward_norm.weight",
    **{f"model.layers.*.mlp.{theirs}": f"blocks.*.feedforward.{ours}" for theirs, ours in MLP.items()},
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "head.weight",
}
OLMO_WEIGHTS: Names = {
    "model.embed_tokens.weight": "embedding.weight",
    "model.layers.*.input_layernorm.weight": "blocks.*.mixer_norm.weight",
    **{f"model.layers.*.linear_attn.{theirs}": f"blocks.*.mixer.{ours}" for theirs, ours in MIXER.items()},
    "model.layers.*.linear_attn.conv1d.weight": tuple(f"blocks.*.mixer.{name}_conv.weight" for name in "qkv"),
    "model.layers.*.post_attention_layernorm.weight": "blocks.*.feedforward_norm.weight",
    **{f"model.layers.*.mlp.{theirs}": f"blocks.*.feedforward.{ours}" for theirs, ours in MLP.items()},
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "head.weight",
}
# Released code scales q by the key head dim ^ -1/2, and nothing after it.
AS_RELEASED = {"qk_scale": "fla", "output_multiplier": False}


def _fla_random(config_class: Any) -> Any:
    return config_class(
        hidden_size=128,
        num_hidden_layers=2,
        num_heads=2,
        num_v_heads=4,
        head_dim=64,
        expand_v=2.0,
        intermediate_size=352,
        vocab_size=256,
        allow_neg_eigval=True,
    )


def _fla_ours(model: Any) -> dict[str, Any]:
    config = model.config
    only(config, use_gate=True, output_gate_activation=("swish", "silu"), use_short_conv=True, hidden_act="swish")
    only(config, attn=None, attnres_block_size=None)
    mixer, mlp = model.model.layers[0].attn, model.model.layers[0].mlp
    return {
        "width": config.hidden_size,
        "depth": config.num_hidden_layers,
        "vocab_size": config.vocab_size,
        "tied": config.tie_word_embeddings,
        "mlp_width": mlp.intermediate_size,
        "norm_eps": config.norm_eps,
        "options": {
            "heads": mixer.num_heads,
            "value_heads": mixer.num_v_heads,
            "head_k_dim": mixer.head_k_dim,
            "head_v_dim": mixer.head_v_dim,
            "conv_size": config.conv_size,
            "negative_eigenvalues": config.allow_neg_eigval,
            **AS_RELEASED,
        },
    }


def _fla_state(cache: Any, layer: int) -> LayerState:
    """Turn their states ``[B, HV, V, K]`` and the last inputs ``[B, channels, size]`` of each convolution."""
    state = cache[layer]
    tails = [inputs[:, :, 1:].transpose(1, 2) for inputs in state["conv_state"]]
    return {"mixer": {"memory": state["recurrent_state"].mT, "tail": torch.cat(tails, -1)}, "feedforward": {}}


def _olmo_random(config_class: Any) -> Any:
    config = config_class(
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=2,
        num_attention_heads=4,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=32,
        linear_value_head_dim=64,
        vocab_size=256,
        rms_norm_eps=1e-5,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        layer_types=["linear_attention", "full_attention"],
    )
    # Its constructor wants attention among the layers; the model does not.
    config.layer_types[:] = ["linear_attention"] * 2
    return config


def _olmo_ours(model: Any) -> dict[str, Any]:
    config = model.config
    # Its gated norm has this epsilon whatever the configuration says.
    only(config, hidden_act="silu", rms_norm_eps=1e-5)
    if set(config.layer_types) != {"linear_attention"}:
        raise GdnbenchError(f"{config.model_type}: has layers of attention with norms after them; ours are before")
    return {
        "width": config.hidden_size,
        "depth": config.num_hidden_layers,
        "vocab_size": config.vocab_size,
        "tied": config.tie_word_embeddings,
        "mlp_width": config.intermediate_size,
        "norm_eps": config.rms_norm_eps,
        "options": {
            "heads": config.linear_num_key_heads,
            "value_heads": config.linear_num_value_heads,
            "head_k_dim": config.linear_key_head_dim,
            "head_v_dim": config.linear_value_head_dim,
            "conv_size": config.linear_conv_kernel_dim,
            "negative_eigenvalues": config.linear_allow_neg_eigval,
            **AS_RELEASED,
        },
    }


def _olmo_state(cache: Any, layer: int) -> LayerState:
    """Take their state ``[B, HV, K, V]`` and the last inputs ``[B, channels, size]`` of the one convolution."""
    state = cache.layers[layer]
    tail = state.conv_states[0][:, :, 1:].transpose(1, 2)
    return {"mixer": {"memory": state.recurrent_states[0], "tail": tail}, "feedforward": {}}


PEERS = (
    Peer(
        library="flash-linear-attention",
        model="fla.models.GatedDeltaNetForCausalLM",
        model_type="gated_deltanet",
        random=_fla_random,
        ours=_fla_ours,
        weights=FLA_WEIGHTS,
        state=_fla_state,
        dtypes=("float32", "bfloat16"),
        kernels=fla,
        tolerances=FLA_TOLERANCES,
    ),
    Peer(
        library="transformers",
        model="transformers.OlmoHybridForCausalLM",
        model_type="olmo_hybrid",
        random=_olmo_random,
        ours=_olmo_ours,
        weights=OLMO_WEIGHTS,
        state=_olmo_state,
        plain=(
            *("causal_conv1d_fn", "causal_conv1d_update"),
            *("torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"),
        ),
        # Left to itself, it asks its layers of attention how long the past is.
        arguments={"attention_mask": {"linear_attention": None}, "position_ids": torch.zeros(1, 1, dtype=torch.int64)},
        not_covered=("its layers of attention, which normalize after and not before them",),
    ),
)
