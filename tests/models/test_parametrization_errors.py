"""What a parametrization refuses, and mixers from files outside the repository, with table rows of their own."""

import pytest
import torch

from gdnbench.errors import GdnbenchError
from gdnbench.models import Parametrization, build_decoder, registry
from gdnbench.models.parametrization import label, rows, table_names

VARIANT = '''
"""The mean of all inputs so far, projected."""

import torch
from torch import nn

from gdnbench.models.mixer import Mixer
from gdnbench.models.projection import Projection
from gdnbench.models.roles import Role, declare, normal


class Mean(Mixer):
    role_rows = {role_rows}

    def __init__(self, config, layer):
        super().__init__(config, layer)
        self.proj = Projection(config.width, config.width, init=normal(config.init_std), row="{row}")
        {more}

    def forward(self, x, state=None, shared=None):
        total = x.cumsum(1) if state is None else x.cumsum(1) + state["sum"][:, None]
        return self.proj(total), None if state is None else {{"sum": total[:, -1]}}

    def init_state(self, batch_size):
        return {{"sum": self._empty(batch_size, self.proj.weight.shape[0])}}

    def state_bytes(self, context, element_size):
        return self.proj.weight.shape[0] * element_size

    def parameter_count(self):
        return sum(p.numel() for p in self.parameters())

    def flops_per_token(self, context):
        return 2 * self.proj.weight.numel()
'''
BLEND = {
    "blend": {
        "decays": True,
        "about": "the mean's projection",
        "tables": {
            "sp_fanin": {"init": "m_in^-1/2"},
            "mup_orig": {"adamw": "m_in^-1"},
            "mup_gdn": {"sgd": "m_out^1/2"},
        },
    }
}


@pytest.fixture
def add_variant(tmp_path, monkeypatch):
    """Return a function that writes a mixer file outside the repository, adds it and gives its name."""
    monkeypatch.setattr(registry, "_added", {})

    def add(name="mean", row="hidden", role_rows=None, more=""):
        file = tmp_path / f"{name}.py"
        file.write_text(VARIANT.format(row=row, role_rows=role_rows or {}, more=more))
        return registry.add_file(file)

    return add


def build(tiny_config, arch, table="sp", **settings):
    return build_decoder(tiny_config(arch, width=64, **settings), Parametrization(table=table), seed=0)


def test_a_file_becomes_an_architecture(add_variant, tiny_config, tiny_tokens, tmp_path):
    name = add_variant()
    assert (
        name == "mean" and name in registry.names() and registry.source_file(name) == (tmp_path / "mean.py").resolve()
    )
    model = build(tiny_config, "hybrid", pattern="mean gdn", depth=2)
    expected, _ = model(tiny_tokens(1, 6))
    _, state = model(tiny_tokens(1, 5), model.init_state(1))
    torch.testing.assert_close(model.step(tiny_tokens(1, 6)[:, 5], state)[0], expected[:, 5], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("table", "init", "adamw", "sgd"),
    # mup_gdn extends mup_orig and has both its cells; sp has none.
    [("sp", 1, 1, 1), ("sp_fanin", 0.5, 1, 1), ("mup_orig", 1, 0.25, 1), ("mup_gdn", 1, 0.25, 2)],
)
def test_a_mixers_own_rows_are_honoured(table, init, adamw, sgd, add_variant, tiny_config):
    model = build(tiny_config, add_variant(row="blend", role_rows=BLEND), table)
    rule = next(rule for rule in model.rules if rule.name == "blocks.0.mixer.proj.weight")
    assert (rule.role, rule.init, rule.adamw, rule.sgd, rule.decay) == ("blend", init, adamw, sgd, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"more": "self.extra = nn.Parameter(torch.zeros(3))"}, r"parameter blocks.0.mixer.extra has no role"),
        ({"row": "hiden"}, r"unknown role 'hiden'; did you mean hidden"),
        ({"row": "blend"}, r"unknown role 'blend'"),
        (
            {"row": "blend", "role_rows": {"blend": {"decays": True, "tables": {"sp": {"adam": "m"}}}}},
            r"unknown table column 'adam'; did you mean adamw",
        ),
        (
            {"row": "blend", "role_rows": {"blend": {"decays": True, "tables": {"sp": {"init": "d^2"}}}}},
            r"table cell 'd\^2'",
        ),
    ],
)
def test_roles_that_do_not_fit(settings, message, add_variant, tiny_config):
    name = add_variant(**settings)
    with pytest.raises(GdnbenchError, match=message):
        build(tiny_config, name)


@pytest.mark.parametrize("entry", [{"tables": {}}, {"decays": True, "tables": {"mup_gnd": {"init": "m"}}}])
def test_rows_with_a_missing_field_or_an_unknown_table(entry, add_variant, tiny_config):
    name = add_variant(row="blend", role_rows={"blend": entry})
    with pytest.raises(GdnbenchError, match=r"decays|mup_gnd"):
        build(tiny_config, name)


def test_a_forward_factor_nobody_applies_is_an_error(add_variant, tiny_config):
    # A matrix declared by hand: its owner does not multiply by the factor, and the rates would be wrong for it.
    role = 'Role(row="gate", fan_in=config.width, init=normal(1.0))'
    name = add_variant(more=f'declare(self, "gate", (3, config.width), {role})')
    choice = Parametrization(table="mup_gdn", switches={"gating_normalization": "factor"})
    with pytest.raises(GdnbenchError, match=r"mixer\.gate"):
        build_decoder(tiny_config(name, width=64), choice, seed=0)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"table": "mup_gnd"}, r"unknown parametrization 'mup_gnd'; did you mean mup_gdn"),
        (
            {"switches": {"gate_sgd_rul": "paper"}},
            r"unknown parametrization switch 'gate_sgd_rul'; did you mean gate_sgd_rule",
        ),
        ({"switches": {"gate_sgd_rule": "papers"}}, r"unknown choice of gate_sgd_rule 'papers'; did you mean paper"),
        ({"switches": {"norm_rate": "2"}}, r"unknown choice of norm_rate '2'; known: 1, 1/m, frozen"),
    ],
)
def test_unknown_names_come_with_the_nearest(choice, message):
    with pytest.raises(GdnbenchError, match=message):
        rows(Parametrization(**choice))


def test_a_choice_may_be_a_number_in_yaml():
    assert rows(Parametrization(switches={"norm_rate": 1})) == rows(Parametrization(switches={"norm_rate": "1"}))


def test_two_switches_on_one_cell_are_refused():
    # The last of them would win; but a run's identity sorts its keys, so two orders are one run.
    with pytest.raises(GdnbenchError, match="gate_init and gating_normalization both set init of gate"):
        rows(Parametrization(switches={"gating_normalization": "init", "gate_init": "readout"}))


def test_gates_that_start_at_zero_still_train_in_the_factor_form():
    switches = {"gating_normalization": "factor", "gate_init": "zero"}
    try:
        gate = rows(Parametrization(table="mup_gdn", switches=switches))["gate"]
    except GdnbenchError:
        return
    assert gate.forward(4, 4, 1) * gate.adamw(4, 4, 1) > 0


def test_every_table_has_a_label_of_its_own():
    assert len({label(name) for name in table_names()}) == len(table_names())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected one Mixer class in the file, found 0"),
        ("import nowhere_at_all", "does not import: ModuleNotFoundError"),
        ("x = (", "does not import: SyntaxError"),
    ],
)
def test_files_that_are_no_mixer(content, message, tmp_path):
    file = tmp_path / "broken.py"
    file.write_text(content)
    with pytest.raises(GdnbenchError, match=message):
        registry.add_file(file)


def test_a_file_does_not_replace_a_baseline(tmp_path):
    file = tmp_path / "gdn.py"
    file.write_text("")
    with pytest.raises(GdnbenchError, match="'gdn' exists already; rename"):
        registry.add_file(file)
    with pytest.raises(GdnbenchError, match="no such file"):
        registry.add_file(tmp_path / "absent.py")
