"""Arms of a task get the reference's state, by the option that the preset names for each."""

import re

import pytest

from gdnbench.configuration import from_mapping
from gdnbench.errors import GdnbenchError
from gdnbench.models import Parametrization, build_decoder
from gdnbench.plan.budgets import counts
from gdnbench.plan.expand import expand
from gdnbench.presets import Preset
from gdnbench.presets.load import check_preset
from tests.runs.tiny import study, sweep

ONE_HEAD = {"options": {"transformer": {"kv_heads": 1}}}
ARMS = [
    {"name": "G", "arch": "gdn"},
    {"name": "T", "arch": "transformer", "vary": {"option": "transformer.head_dim"}, "model": ONE_HEAD},
    {"name": "M", "arch": "mamba2", "vary": {"option": "mamba2.state_dim"}},
    {"name": "R", "arch": "rwkv7", "vary": {"option": "rwkv7.head_dim"}},
    {
        "name": "H",
        "arch": "hybrid",
        "vary": {"option": "transformer.head_dim"},
        "model": {"pattern": "gdn transformer", "depth": 2},
    },
]


def task(arms=ARMS, **changes):
    match = {"by": "state_bytes", "reference": "G", "tolerance": changes.pop("tolerance", 1.0)}
    model = {"options": {"gdn": {"head_k_dim": 16, "head_v_dim": 16}}}
    values = {"kind": "task", "corpus": "task:parity", "match": match, "arms": arms, "model": model, **changes}
    preset = from_mapping(Preset, study(sweep(**values)), "tiny")
    check_preset(preset, "tiny")
    return {spec.arm: spec for spec in expand(preset, {}).runs}


def state(spec):
    return counts(spec.model, spec.training.seq_len).state_bytes


def test_the_chosen_value_is_the_nearest_of_all_that_work():
    runs = task()
    target = state(runs["G"])
    for arm, option in (("T", "head_dim"), ("M", "state_dim"), ("R", "head_dim")):
        spec = runs[arm]
        options = spec.model.options[spec.model.arch]
        others = []
        for value in range(1, 65):
            changed = {**spec.model.options, spec.model.arch: {**options, option: value}}
            try:
                others.append(counts(type(spec.model)(**{**vars(spec.model), "options": changed}), 16).state_bytes)
            except GdnbenchError:
                continue
        assert abs(state(spec) - target) == min(abs(other - target) for other in others), arm
        assert spec.matched.deviation == pytest.approx(state(spec) / target - 1)
        assert spec.matched.by == "state_bytes"


def test_the_model_can_be_initialized_at_every_width():
    """Its base constants are those of the base width, where the chosen value must do, too."""
    runs = task([ARMS[0], ARMS[1]], widths=[48])
    assert runs["T"].model.options["transformer"]["head_dim"] % 2 == 0
    build_decoder(runs["T"].model, Parametrization(), seed=0)


def test_a_hybrid_varies_the_layer_that_is_named():
    runs = task()
    assert dict(runs["H"].model.options["gdn"]) == dict(runs["G"].model.options["gdn"])
    assert runs["H"].matched is not None


def test_an_arm_that_varies_nothing_keeps_its_own_state():
    runs = task([ARMS[0], {"name": "Full", "arch": "transformer"}], tolerance=0.01)
    assert runs["Full"].matched is None
    assert runs["G"].matched.deviation == 0.0


def test_values_are_multiples_of_the_step():
    vary = {"option": "mamba2.state_dim", "step": 8}
    free, stepped = (task([ARMS[0], {**ARMS[2], "vary": v}])["M"] for v in (ARMS[2]["vary"], vary))
    dims = [spec.model.options["mamba2"]["state_dim"] for spec in (free, stepped)]
    assert dims[0] % 8 and dims[1] % 8 == 0 and abs(dims[0] - dims[1]) <= 4


def test_the_state_is_that_at_the_tasks_length():
    short, long = (task(ARMS[:2], training={"seq_len": length}) for length in (16, 64))
    assert long["T"].model.options["transformer"]["head_dim"] < short["T"].model.options["transformer"]["head_dim"]


@pytest.mark.parametrize(
    ("arm", "changes", "said"),
    [
        ({"vary": {"option": "transformer.headdim"}}, {}, "did you mean head_dim"),
        ({"vary": {"option": "head_dim"}}, {}, "'head_dim' by 1 is not mixer.option"),
        (
            {"vary": {"option": "transformer.head_dim"}},
            {"tolerance": 0.0001},
            r"nearest to G by state_bytes is [+-][\d.]+% off",
        ),
        ({}, {"kind": "comparison", "corpus": None}, "match.by state_bytes goes with kind task"),
        ({}, {"corpus": "stdlib"}, "kind task goes with a corpus task:<name>"),
        ({}, {"kind": "lr_sweep", "match": None}, "and only with it"),
        ({}, {"task": {"elements": "some"}}, "not a valid choice"),
        ({}, {"corpus": "task:mqar"}, "seq_len of at least 256, got 16"),
        ({}, {"corpus": "task:mqar", "task": {"pairs": [2]}, "evaluation": {"lengths": [32]}}, "measured by pairs"),
    ],
)
def test_what_does_not_fit_is_told(arm, changes, said):
    with pytest.raises(GdnbenchError) as raised:
        task([ARMS[0], {"name": "T", "arch": "transformer", **arm}], **changes)
    assert re.search(said, str(raised.value))
