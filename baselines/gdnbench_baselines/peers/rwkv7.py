"""RWKV-7 of flash-linear-attention: our native block."""

from typing import Any

from gdnbench_kernels import fla

from gdnbench.errors import GdnbenchError
from gdnbench.measure.parity.peer import LayerState, Names, Peer, only
from gdnbench_baselines.peers import FLA_TOLERANCES

# Low-rank maps, theirs -> ours: a Sequential of two matrices there.
MAPS = {"w_lora": "decay", "a_lora": "rate", "v_lora": "value_mix", "g_lora": "gate"}
PARTS = {"lora.0.weight": "down.weight", "lora.2.weight": "up.weight", "lora.2.bias": "bias"}
NORMS = {"pre_norm": "input_norm", "attn_norm": "mixer_norm", "ffn_norm": "feedforward_norm"}
SAME = (*(f"x_{name}" for name in "rwkvag"), "k_k", "k_a", "r_k", *(f"{name}_proj.weight" for name in "rkvo"))

WEIGHTS: Names = {
    "model.embeddings.weight": "embedding.weight",
    **{
        f"model.layers.*.{theirs}.{part}": f"blocks.*.{ours}.{part}"
        for theirs, ours in NORMS.items()
        for part in ("weight", "bias")
    },
    **{f"model.layers.*.attn.{name}": f"blocks.*.mixer.{name}" for name in SAME},
    **{
        f"model.layers.*.attn.{theirs}.{part}": f"blocks.*.mixer.{ours}.{own}"
        for theirs, ours in MAPS.items()
        for part, own in PARTS.items()
    },
    **{f"model.layers.*.attn.g_norm.{part}": f"blocks.*.mixer.norm_{part}" for part in ("weight", "bias")},
    **{f"model.layers.*.ffn.{name}": f"blocks.*.feedforward.{name}" for name in ("x_k", "key.weight", "value.weight")},
    "model.norm.weight": "norm.weight",
    "model.norm.bias": "norm.bias",
    "lm_head.weight": "head.weight",
}


def _random(config_class: Any) -> Any:
    return config_class(
        hidden_size=128,
        num_hidden_layers=2,
        head_dim=64,
        decay_low_rank_dim=32,
        a_low_rank_dim=32,
        v_low_rank_dim=16,
        gate_low_rank_dim=64,
        intermediate_size=512,
        vocab_size=256,
    )


def _ours(model: Any) -> dict[str, Any]:
    config = model.config
    # The norm by head has the authors' epsilon in ours, whatever that of the others.
    only(config, hidden_act="sqrelu", norm_first=True, norm_bias=True, attn=None, norm_eps=1e-5)
    if set(config.value_dim) != {config.hidden_size}:
        raise GdnbenchError(f"{config.model_type}: value_dim is {config.value_dim}; ours is hidden_size in all layers")
    return {
        "width": config.hidden_size,
        "depth": config.num_hidden_layers,
        "block": "native",
        "vocab_size": config.vocab_size,
        "tied": config.tie_word_embeddings,
        "mlp_width": model.model.layers[0].ffn.intermediate_size,
        "norm_eps": config.norm_eps,
        "options": {
            "head_dim": config.head_dim,
            "decay_rank": config.decay_low_rank_dim,
            "rate_rank": config.a_low_rank_dim,
            "value_rank": config.v_low_rank_dim,
            "gate_rank": config.gate_low_rank_dim,
        },
    }


def _state(cache: Any, layer: int) -> LayerState:
    """Take their state ``[B, H, K, V]`` and the last input of each of the two token shifts."""
    state = cache[layer]
    memory = state["recurrent_state"]
    last, before = (state[name].reshape(memory.shape[0], -1) for name in ("conv_state", "ffn_state"))
    return {"mixer": {"memory": memory, "last": last}, "feedforward": {"last": before}}


PEERS = (
    Peer(
        library="flash-linear-attention",
        model="fla.models.RWKV7ForCausalLM",
        model_type="rwkv7",
        random=_random,
        settings={"use_l2warp": False},
        ours=_ours,
        weights=WEIGHTS,
        state=_state,
        dtypes=("float32", "bfloat16"),
        kernels=fla,
        tolerances=FLA_TOLERANCES,
        not_covered=("l2warp, its penalty on the largest logit, which is switched off",),
    ),
)
