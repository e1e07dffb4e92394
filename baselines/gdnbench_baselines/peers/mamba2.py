"""Mamba-2 of flash-linear-attention, and Hugging Face's; both name their parameters as the authors do."""

from typing import Any

from gdnbench_kernels import fla

from gdnbench.errors import GdnbenchError
from gdnbench.measure.parity.peer import LayerState, Names, Peer, only
from gdnbench_baselines.peers import FLA_TOLERANCES

WEIGHTS: Names = {
    "backbone.embeddings.weight": "embedding.weight",
    "backbone.layers.*.norm.weight": "blocks.*.mixer_norm.weight",
    "backbone.layers.*.mixer.in_proj.weight": tuple(
        f"blocks.*.mixer.{name}_proj.weight" for name in ("z", "x", "b", "c", "dt")
    ),
    "backbone.layers.*.mixer.conv1d.weight": tuple(f"blocks.*.mixer.{name}_conv.weight" for name in "xbc"),
    "backbone.layers.*.mixer.conv1d.bias": tuple(f"blocks.*.mixer.{name}_conv.bias" for name in "xbc"),
    **{f"backbone.layers.*.mixer.{name}": f"blocks.*.mixer.{name}" for name in ("A_log", "dt_bias", "D")},
    "backbone.layers.*.mixer.norm.weight": "blocks.*.mixer.norm.weight",
    "backbone.layers.*.mixer.out_proj.weight": "blocks.*.mixer.out_proj.weight",
    "backbone.norm_f.weight": "norm.weight",
    "lm_head.weight": "head.weight",
}


def _random(config_class: Any) -> Any:
    return config_class(
        hidden_size=128,
        num_hidden_layers=2,
        num_heads=4,
        head_dim=64,
        expand=2,
        state_size=64,
        n_groups=1,
        vocab_size=256,
        chunk_size=64,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )


def _ours(model: Any) -> dict[str, Any]:
    config = model.config
    # Ours normalizes over the whole inner width, which is by group with one group only.
    only(config, use_bias=False, use_conv_bias=True, hidden_act=("silu", "swish"), n_groups=1)
    mixer = model.backbone.layers[0].mixer
    return {
        "width": config.hidden_size,
        "depth": _controlled_depth(config.num_hidden_layers),
        "block": "native",
        "vocab_size": config.vocab_size,
        "tied": config.tie_word_embeddings,
        "options": {
            "expand": mixer.intermediate_size // config.hidden_size,
            "head_dim": config.head_dim,
            "state_dim": config.state_size,
            "conv_size": config.conv_kernel,
        },
    }


def _controlled_depth(layers: int) -> int:
    if layers % 2:
        raise GdnbenchError(f"mamba2: {layers} layers; our native blocks come in pairs")
    return layers // 2


def _fla_ours(model: Any) -> dict[str, Any]:
    config = model.config
    only(config, D_has_hdim=False, rmsnorm=True, norm_before_gate=False, dt_limit=((0.0, float("inf")),))
    return {**_ours(model), "norm_eps": config.norm_eps}


def _hf_ours(model: Any) -> dict[str, Any]:
    if tuple(model.config.time_step_limit) != (0.0, float("inf")):
        raise GdnbenchError(f"mamba2: time_step_limit is {model.config.time_step_limit}; ours has no limit")
    return {**_ours(model), "norm_eps": model.config.layer_norm_epsilon}


def _block(memory: Any, inputs: Any) -> LayerState:
    """Turn a state ``[B, H, P, N]`` and the last inputs ``[B, channels, size]`` of the convolution."""
    return {"mixer": {"memory": memory.mT, "tail": inputs[:, :, 1:].transpose(1, 2)}}


def _fla_state(cache: Any, layer: int) -> LayerState:
    return _block(cache[layer]["recurrent_state"], cache[layer]["conv_state"])


def _hf_state(cache: Any, layer: int) -> LayerState:
    return _block(cache.layers[layer].recurrent_states[0], cache.layers[layer].conv_states[0])


PEERS = (
    Peer(
        library="flash-linear-attention",
        model="fla.models.Mamba2ForCausalLM",
        model_type="mamba2",
        random=_random,
        ours=_fla_ours,
        weights=WEIGHTS,
        state=_fla_state,
        dtypes=("float32", "bfloat16"),
        kernels=fla,
        tolerances=FLA_TOLERANCES,
        not_covered=("norms by group (n_groups above 1)",),
    ),
    Peer(
        library="transformers",
        model="transformers.Mamba2ForCausalLM",
        model_type="mamba2",
        random=_random,
        ours=_hf_ours,
        weights=WEIGHTS,
        state=_hf_state,
        plain=(
            *("causal_conv1d_fn", "causal_conv1d_update", "mamba2_chunk_scan"),
            *("mamba2_selective_state_update", "mamba2_split_conv1d_scan_combined"),
        ),
        cache="cache_params",
        not_covered=("norms by group (n_groups above 1)",),
    ),
)
