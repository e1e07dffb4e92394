"""The tables, row by row, against the rules as the papers and our derivation state them, at four times the base width.

Expected cells are exponents of m = 4: (start, forward factor, AdamW rate, SGD rate, weight decay); NO: does not decay.
They were written from the rules, not read off ``tables.yaml``.
"""

import re

import pytest
import torch

from gdnbench.models import Parametrization, build_decoder
from gdnbench.models.parametrization import parameter_groups, table_names

M, H = 4.0, 0.5
NO = None
VECTOR = (0, 0, 0, 1, NO)  # tensor programs: a vector starts constant; AdamW rate 1, SGD rate m
MATRICES = r"mixer\.[qkvgo]_proj|feedforward\.(gate|up|down)_proj"

# Which parameters are meant by a class, for the gated delta rule; multipliers have a forward factor only.
GDN_CLASSES = {
    "embedding": r"embedding\.weight",
    "head": r"head\.weight",
    "logits": r"logit_scale",
    "hidden": MATRICES,
    "gates": r"mixer\.[ab]_proj",
    "scalars": r"mixer\.(A_log|dt_bias)",
    "gains": r"(^|\.)(mixer_|feedforward_)?norm\.weight",
    "output_gain": r"mixer\.o_norm",
    "convolutions": r"mixer\.[qkv]_conv",
    "readout": r"mixer\.output_scale",
    "mixer_output": r"\.mixer_output$",
}

SP = {
    "embedding": (0, 0, 0, 0, NO),
    "head": (0, 0, 0, 0, NO),
    "logits": 0,
    "hidden": (0, 0, 0, 0, 0),
    "gates": (0, 0, 0, 0, 0),
    "scalars": (0, 0, 0, 0, NO),
    "gains": (0, 0, 0, 0, NO),
    "output_gain": (0, 0, 0, 0, NO),
    "convolutions": (0, 0, 0, 0, NO),
    "readout": -H,  # flash-linear-attention's dk^-1/2
    "mixer_output": 0,
}
ORIGINAL = {
    **SP,
    "embedding": (0, 0, 0, 1, NO),
    "head": (0, -1, 0, 1, NO),
    "logits": -1,
    "hidden": (-H, 0, -1, 0, 0),
    "gates": (-H, 0, -1, 0, 0),
    "gains": VECTOR,
    "output_gain": VECTOR,
    "convolutions": VECTOR,
}
PAPER = {
    **ORIGINAL,
    "gates": (-H, 0, -1, -H, 0),
    "scalars": (0, 0, 0, H, NO),
    "gains": (0, 0, -1, 0, NO),
    "output_gain": (0, 0, -1, 0, NO),
    "convolutions": (-H, 0, -1, 0, NO),
    "readout": H,
}
DERIVED = {
    **ORIGINAL,
    "hidden": (-H, 0, -1, 0, 1),
    "gates": (-H, 0, -1, -H, 1),
    "scalars": (0, 0, 0, H, NO),
    "readout": H,
}
PAPER_GEOMETRY = {
    "sp": SP,
    "sp_fanin": {**SP, "hidden": (-H, 0, 0, 0, 0), "gates": (-H, 0, 0, 0, 0), "head": (-H, 0, 0, 0, NO)},
    "sp_emb": {**SP, "embedding": (0, 0, 1, 1, NO)},
    "mup_orig": ORIGINAL,
    "mup_gdn": PAPER,
    "mup_gdn_released": {**PAPER, "readout": -H, "embedding": (-H, 0, 0, 1, NO)},
    "mup_gdn_oproj": {**PAPER, "readout": -H, "mixer_output": -1},
    "mup_derived": DERIVED,
    "mup_mamba2": DERIVED,
    "mup_rwkv7": DERIVED,
}
# Heads grow: gates are true hidden matrices, the key dim is constant; the paper does not cover its gates here, and the
# output gain, shared by all heads, may have an SGD rate between 1 and m^1/2.
ANY = object()
FIXED_HEAD = {
    "sp": {**SP, "readout": 0},
    "mup_orig": {**ORIGINAL, "readout": 0, "output_gain": (0, 0, 0, ANY, NO)},
    "mup_gdn": {**PAPER, "readout": 0, "gates": ANY, "scalars": ANY},
    "mup_derived": {
        **DERIVED,
        "readout": 0,
        "gates": (-H, 0, -1, 0, 1),
        "scalars": (0, 0, 0, 1, NO),
        "output_gain": (0, 0, 0, ANY, NO),
    },
}


@pytest.fixture
def rules_of(tiny_config):
    """Return a function that builds a decoder at m = 4 and gives its rules by name (of one block; all are alike)."""

    def build(arch, table, switches=None, **settings):
        choice = Parametrization(table=table, switches=switches or {})
        model = build_decoder(tiny_config(arch, width=64, **settings), choice, seed=0)
        return model, {rule.name: rule for rule in model.rules}

    return build


def cells(rule):
    return (rule.init, rule.forward, rule.adamw, rule.sgd, rule.decay)


def expected_cells(exponents):
    return tuple(ANY if e is ANY else 0.0 if e is NO else M**e for e in exponents)


def assert_rows(rules, classes, expected):
    """Check every rule against its class; each parameter must belong to exactly one."""
    for name, rule in rules.items():
        found = [label for label, pattern in classes.items() if re.search(pattern, name)]
        assert len(found) == 1, f"{name}: {found}"
        row = expected[found[0]]
        if row is ANY:
            continue
        if not isinstance(row, tuple):
            assert rule.forward == M**row, f"{name}: {rule.forward}"
            continue
        pairs = zip(cells(rule), expected_cells(row), strict=True)
        assert all(want is ANY or got == want for got, want in pairs), f"{name} ({found[0]}): {cells(rule)}"


def test_every_table_is_tested():
    assert set(PAPER_GEOMETRY) == set(table_names())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("table", PAPER_GEOMETRY)
def test_gdn_in_the_papers_geometry(table, tied, rules_of):
    _, rules = rules_of("gdn", table, tied=tied)
    assert_rows(rules, GDN_CLASSES, PAPER_GEOMETRY[table])


@pytest.mark.parametrize("table", FIXED_HEAD)
def test_gdn_with_fixed_heads(table, rules_of):
    _, rules = rules_of("gdn", table, geometry="fixed_head")
    assert_rows(rules, GDN_CLASSES, FIXED_HEAD[table])
    assert 1 <= rules["blocks.0.mixer.o_norm.weight"].sgd <= M**0.5


@pytest.mark.parametrize(
    ("geometry", "table", "exponent"),
    [("paper", "sp", -H), ("paper", "mup_orig", -1), ("paper", "mup_gdn", -1), ("paper", "mup_derived", -1)]
    + [("fixed_head", table, 0) for table in ("sp", "mup_orig", "mup_derived")],
)
def test_attention_scale(geometry, table, exponent, rules_of):
    # Base head dim 4: the scale there is 4^-1/2 under every table; under muP it is then (dk0)^1/2 / dk.
    model, rules = rules_of("transformer", table, geometry=geometry)
    assert model.blocks[0].mixer.scale.value == 0.5 * M**exponent
    assert_rows({n: r for n, r in rules.items() if "_proj" in n}, {"hidden": MATRICES}, PAPER_GEOMETRY[table])


@pytest.mark.parametrize(
    ("table", "value"), [("sp", 0.5 * 2**0.5), ("mup_gdn", 8**0.5), ("mup_gdn_oproj", 0.5 * 2**0.5)]
)
def test_readout_multiplier_is_the_root_of_the_key_dim(table, value, rules_of):
    # The key dim is 2 at the base width and 8 here: the text's multiplier is dk^1/2.
    model, _ = rules_of("gdn", table)
    assert model.blocks[0].mixer.output_scale.value == pytest.approx(value, rel=1e-12)


MAMBA2_CLASSES = {
    "embedding": r"^embedding",
    "logits": r"logit_scale",
    "mixer_output": r"\.mixer_output$",
    "hidden": r"mixer\.(z|x|dt|out)_proj|feedforward\.(gate|up|down)_proj",
    "shared": r"mixer\.[bc]_proj",
    "per_head": r"mixer\.(A_log|dt_bias|D)$",
    "inner_convolution": r"mixer\.x_conv",
    "shared_convolution": r"mixer\.[bc]_conv\.weight",
    "shared_convolution_bias": r"mixer\.[bc]_conv\.bias",
    "gains": r"norm\.weight",
}
MAMBA2 = {
    "embedding": (0, 0, 0, 1, NO),
    "logits": -1,
    "mixer_output": 0,
    "hidden": (-H, 0, -1, 0, 1),
    "shared": (-H, 0, -1, -H, 1),
    "per_head": VECTOR,
    "inner_convolution": VECTOR,
    "shared_convolution": (0, 0, 0, H, NO),
    "shared_convolution_bias": (0, 0, 0, H, NO),
    "gains": VECTOR,
}


@pytest.mark.parametrize("label", MAMBA2)
def test_mamba2_candidate(label, rules_of):
    _, rules = rules_of("mamba2", "mup_mamba2", geometry="fixed_head")
    assert all(any(re.search(p, name) for p in MAMBA2_CLASSES.values()) for name in rules)
    own = {name: rule for name, rule in rules.items() if re.search(MAMBA2_CLASSES[label], name)}
    assert own
    assert_rows(own, {label: MAMBA2_CLASSES[label]}, MAMBA2)


RWKV7_CLASSES = {
    "mixer_output": r"\.mixer_output$",
    "embedding": r"^embedding",
    "logits": r"logit_scale",
    "hidden": r"mixer\.[rkv]_proj|feedforward\.key",
    "zero_start": r"mixer\.o_proj|feedforward\.value",
    "lora_down": r"\.down\.weight",
    "lora_up": r"\.up\.weight",
    "vectors": r"\.x_[rwkvag]$|(decay|rate|value_mix|norm)\.bias|\.(k_k|k_a|r_k|norm_bias|norm_weight)$|norm\.weight",
    "bonus": r"mixer\.bonus",
}
RWKV7 = {
    "mixer_output": 0,
    "embedding": (0, 0, 0, 1, NO),
    "logits": -1,
    "hidden": (-H, 0, -1, 0, 1),
    "zero_start": (0, 0, -1, 0, 1),  # no factor on a start at zero
    "lora_down": (0, 0, -1, -H, 1),  # starts at zero too; decay may be 0 or lambda m
    "lora_up": VECTOR,  # fan-in is a rank that stays
    "vectors": VECTOR,
    "bonus": 0,
}


@pytest.mark.parametrize(("geometry", "bonus"), [("fixed_head", 0), ("paper", -1)])
def test_rwkv7_candidate(geometry, bonus, rules_of):
    _, rules = rules_of("rwkv7", "mup_rwkv7", geometry=geometry, block="native")
    assert_rows(rules, RWKV7_CLASSES, {**RWKV7, "bonus": bonus})


GATE, SCALAR = "blocks.0.mixer.a_proj.weight", "blocks.1.mixer.dt_bias"
SWITCHES = [
    ("gate_sgd_rule", "paper", GATE, "sgd", -H),
    ("gate_sgd_rule", "paper", SCALAR, "sgd", H),
    ("gate_sgd_rule", "hidden", GATE, "sgd", 0),
    ("gate_sgd_rule", "hidden", SCALAR, "sgd", 1),
    ("gate_sgd_rule", "readout", GATE, "sgd", -1),
    ("gate_sgd_rule", "readout", SCALAR, "sgd", 0),
    ("gate_sgd_rule", "orig", GATE, "sgd", 0),
    ("gate_sgd_rule", "orig", SCALAR, "sgd", 0),
    ("gate_init", "hidden", GATE, "init", -H),
    ("gate_init", "readout", GATE, "init", -1),
    ("gating_normalization", "init", GATE, "init", -H),
    ("gating_normalization", "off", GATE, "init", 0),
    ("gating_normalization", "off", GATE, "adamw", -1),
    ("output_multiplier", "sqrt", "blocks.0.mixer.output_scale", "forward", H),
    ("output_multiplier", "none", "blocks.0.mixer.output_scale", "forward", -H),
    ("mixer_output", "1", "blocks.0.mixer_output", "forward", 0),
    ("mixer_output", "1/m", "blocks.0.mixer_output", "forward", -1),
    ("conv_rule", "hidden", "blocks.0.mixer.q_conv.weight", "init", -H),
    ("conv_rule", "hidden", "blocks.0.mixer.q_conv.weight", "adamw", -1),
    ("conv_rule", "hidden", "blocks.0.mixer.q_conv.weight", "sgd", 0),
    ("conv_rule", "vector", "blocks.0.mixer.q_conv.weight", "init", 0),
    ("conv_rule", "vector", "blocks.0.mixer.q_conv.weight", "adamw", 0),
    ("conv_rule", "vector", "blocks.0.mixer.q_conv.weight", "sgd", 1),
    ("norm_rate", "1/m", "norm.weight", "adamw", -1),
    ("norm_rate", "1/m", "blocks.0.mixer.o_norm.weight", "adamw", -1),
    ("norm_rate", "1/m", "norm.weight", "sgd", 0),
    ("norm_rate", "1", "norm.weight", "adamw", 0),
    ("norm_rate", "1", "norm.weight", "sgd", 1),
    ("embedding_init", "constant", "embedding.weight", "init", 0),
    ("embedding_init", "hidden", "embedding.weight", "init", -H),
    ("embedding_rate", "m", "embedding.weight", "adamw", 1),
    ("embedding_rate", "1", "embedding.weight", "adamw", 0),
    ("decay_mode", "coupled", "blocks.0.mixer.q_proj.weight", "decay", 0),
    ("decay_mode", "independent", "blocks.0.mixer.q_proj.weight", "decay", 1),
    ("decay_mode", "independent", GATE, "decay", 1),
    ("decay_mode", "sqrt", "blocks.0.feedforward.down_proj.weight", "decay", H),
    ("epsilon_mode", "1/m", "blocks.0.mixer.q_proj.weight", "epsilon", -1),
    ("epsilon_mode", "1/m", "embedding.weight", "epsilon", -1),
    ("epsilon_mode", "constant", "blocks.0.mixer.q_proj.weight", "epsilon", 0),
    ("decay_groups", "released", "blocks.0.mixer.q_conv.weight", "decay", 0),
]


@pytest.mark.parametrize("table", ["mup_gdn", "mup_derived"])
@pytest.mark.parametrize(("switch", "choice", "name", "column", "exponent"), SWITCHES)
def test_switches(switch, choice, name, column, exponent, table, rules_of):
    _, rules = rules_of("gdn", table, {switch: choice})
    assert getattr(rules[name], column) == M**exponent


def test_switches_that_zero(rules_of):
    model, rules = rules_of("gdn", "mup_gdn", {"gate_init": "zero", "norm_rate": "frozen"})
    assert rules[GATE].init == 0 and model.blocks[0].mixer.a_proj.weight.eq(0).all()
    assert rules[GATE].adamw == 1 / M
    assert {rules[name].adamw + rules[name].sgd for name in ("norm.weight", "blocks.1.mixer.o_norm.weight")} == {0.0}


@pytest.mark.parametrize(
    ("rule", "mode", "sgd", "decay"),
    [("paper", "coupled", H, -H), ("hidden", "independent", 1, H), ("readout", "coupled", 0, -H)],
)
def test_gating_normalization_as_a_factor(rule, mode, sgd, decay, rules_of):
    # z = m^-1/2 w x with w of the base std: AdamW rate m^-1/2, SGD rate the rule's times m, epsilon with the gradient.
    switches = {"gating_normalization": "factor", "gate_sgd_rule": rule, "decay_mode": mode}
    model, rules = rules_of("gdn", "mup_gdn", switches)
    for name in (GATE, GATE.replace("a_proj", "b_proj")):
        assert cells(rules[name]) == expected_cells((0, -H, -H, sgd, decay))
        assert rules[name].epsilon == M**-H
    assert model.blocks[0].mixer.a_proj.factor == M**-H
    assert rules[SCALAR].forward == 1


@pytest.mark.parametrize("table", ["sp", "sp_fanin", "mup_gdn", "mup_derived", "mup_gdn_released"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_tensors_and_optimizer_get_what_the_rules_say(table, optimizer, rules_of):
    """Starts are measured on the tensors; rates, decay and epsilon are read from the groups of a real optimizer."""
    model, rules = rules_of("gdn", table, vocab_size=64)
    groups = parameter_groups(model, model.rules, optimizer, lr=0.01, weight_decay=0.1, eps=1e-8)
    torch.optim.AdamW(groups) if optimizer == "adamw" else torch.optim.SGD(groups)
    for name, parameter in model.named_parameters():
        own = [group for group in groups if any(parameter is member for member in group["params"])]
        assert len(own) == 1, name
        rule = rules[name]
        rate, decay = (rule.adamw, rule.decay) if optimizer == "adamw" else (rule.sgd, rule.sgd_decay)
        assert own[0]["lr"] == 0.01 * rate and own[0]["weight_decay"] == 0.1 * decay
        assert optimizer == "sgd" or own[0]["eps"] == 1e-8 * rules[name].epsilon
        if rules[name].init_std and parameter.numel() > 1000:
            assert parameter.std().item() == pytest.approx(rules[name].init_std, rel=0.1), name
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    # The base standard deviation is .02 for all of these, and 4^-1/2 of it for hidden matrices by fan-in.
    hidden = 0.02 if table == "sp" else 0.01
    assert rules["blocks.0.feedforward.up_proj.weight"].init_std == hidden
