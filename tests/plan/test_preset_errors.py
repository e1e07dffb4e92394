"""A mistake in a preset is one line with its place and the nearest name, before anything runs."""

import pytest

from gdnbench.errors import GdnbenchError
from gdnbench.plan.expand import expand
from gdnbench.presets import load_preset, preset_names
from tests.runs.tiny import sweep, write_study


def gdn(**changes):
    return {"name": "G", "arch": "gdn", **changes}


def card(**changes):
    return {"claim": "B1", "test": "lr_transfer", "experiment": "sweep", "arm": "T", **changes}


MISTAKES = {
    "key": ([], {"modell": {}}, ["modell", "model"]),
    "nested key": ([], {"training": {"stesp": 3}}, ["training.stesp", "steps"]),
    "experiment's key": ([sweep(withs=[16])], {}, ["experiments[0].withs", "widths"]),
    "arm's key": ([sweep(arms=[gdn(tabel="sp")])], {}, ["arms[0].tabel", "table"]),
    "option": ([sweep(arms=[gdn()])], {"model": {"options": {"gdn": {"head": 2}}}}, ["options.gdn.head", "heads"]),
    "type": ([], {"training": {"steps": "many"}}, ["training.steps", "int", "many"]),
    "choice": ([sweep(kind="lr_swep")], {}, ["experiments[0].kind", "lr_sweep"]),
    "architecture": ([sweep(arms=[gdn(arch="gdm")])], {}, ["gdm", "gdn"]),
    "hybrid's member": ([sweep(arms=[gdn(arch="hybrid", model={"pattern": "gdm"})])], {}, ["gdm", "gdn"]),
    "learning rates": ([sweep(log2_lrs={32: [-7]})], {}, ["sweep", "log2_lrs", "'T'", "16"]),
    "twice the same arm": ([sweep(arms=[gdn(), gdn()])], {}, ["sweep", "G, G"]),
    "twice the same experiment": ([sweep(), sweep()], {}, ["sweep, sweep"]),
    "no width": ([sweep(widths=[])], {}, ["sweep", "width"]),
    "no arm": ([sweep(arms=[])], {}, ["sweep", "arm"]),
    "reference": ([sweep(match={"by": "tokens", "reference": "U"})], {}, ["match.reference", "'U'", "T"]),
    "claim's experiment": ([sweep()], {"claims": [card(experiment="sweeps")]}, ["B1", "sweeps", "sweep"]),
    "claim's arm": ([sweep()], {"claims": [card(arm="TT")]}, ["B1", "TT"]),
    "claim's control": ([sweep()], {"claims": [card(control="SP")]}, ["B1", "SP"]),
    "contexts": ([{"name": "d", "kind": "decode", "widths": [16], "arms": [gdn()]}], {}, ["contexts"]),
    "arm's width": ([sweep(arms=[gdn(widths=[64])])], {}, ["width of arm 'G'", "64", "16"]),
    "transferred rate": ([sweep(arms=[gdn(transferred_lr=-6.5)])], {}, ["transferred_lr -6.5", "'G'", "16: -7"]),
    "horizons": ([sweep(kind="horizon")], {}, ["horizons"]),
    "rate before fine-tuning": ([sweep(kind="fine_tune")], {}, ["start.optimizer.lr"]),
    "section before fine-tuning": (
        [sweep(kind="fine_tune", start={"optimizer": {"lr": 0.1}, "trainning": {}})],
        {},
        ["start", "trainning", "training"],
    ),
    "slice's experiment": ([sweep()], {"order": [{"experiment": "swep"}]}, ["order[0]", "swep", "sweep"]),
    "slice's arm": ([sweep()], {"order": [{"experiment": "sweep", "arms": ["U"]}]}, ["order[0]", "arm 'U'", "T"]),
    "slice's width": ([sweep()], {"order": [{"experiment": "sweep", "widths": [17]}]}, ["order[0]", "17", "16"]),
    "tokenizer": ([], {"tokenizer": "byte"}, ["byte", "bytes"]),
    "pattern without hybrid": ([], {"model": {"pattern": "gdn"}}, ["model.pattern", "hybrid"]),
}


@pytest.mark.parametrize(("experiments", "changes", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistake(tmp_path, experiments, changes, said):
    path = write_study(tmp_path / "mine.yaml", *experiments, **changes)
    with pytest.raises(GdnbenchError) as caught:
        for spec in expand(load_preset(str(path)), {}).runs:
            _sized(spec)
    message = str(caught.value)
    assert "\n" not in message
    for part in said:
        assert part in message


def _sized(spec):
    from gdnbench.plan.budgets import counts

    counts(spec.model, 16)


@pytest.mark.parametrize(("arch", "width", "works"), [("gdn", 20, 24), ("transformer", 21, 22), ("rwkv7", 20, 24)])
def test_a_width_that_the_heads_do_not_divide_names_one_that_works(tmp_path, arch, width, works):
    geometry = "fixed_head" if arch == "rwkv7" else "paper"
    arms = [{"name": "X", "arch": arch, "model": {"geometry": geometry}}]

    def sized(wanted):
        path = write_study(tmp_path / f"{wanted}.yaml", sweep(arms=arms, widths=[wanted]))
        for spec in expand(load_preset(str(path)), {}).runs:
            _sized(spec)

    with pytest.raises(GdnbenchError) as caught:
        sized(width)
    assert str(width) in str(caught.value)
    named = {int(word) for word in str(caught.value).replace(",", " ").split() if word.isdigit()} - {width}
    assert named, f"no width that works is named: {caught.value}"
    for wanted in named - {1}:
        sized(wanted)


def test_no_such_preset_names_the_nearest():
    with pytest.raises(GdnbenchError, match="did you mean quick"):
        load_preset("quik")


def test_no_such_file_and_no_yaml(tmp_path):
    with pytest.raises(GdnbenchError, match="no such file"):
        load_preset(str(tmp_path / "none.yaml"))
    (tmp_path / "broken.yaml").write_text("name: [")
    with pytest.raises(GdnbenchError, match=r"broken\.yaml"):
        load_preset(str(tmp_path / "broken.yaml"))
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(GdnbenchError, match="mapping"):
        load_preset(str(tmp_path / "list.yaml"))


def test_a_missing_field_is_named(tmp_path):
    (tmp_path / "short.yaml").write_text("name: short\n")
    with pytest.raises(GdnbenchError, match="required"):
        load_preset(str(tmp_path / "short.yaml"))


@pytest.mark.parametrize("value", [".inf", ".nan"])
def test_a_number_that_json_does_not_have_is_refused(tmp_path, value):
    path = write_study(tmp_path / "mine.yaml")
    path.write_text(path.read_text().replace("training:", f"training:\n  max_loss: {value}"))
    with pytest.raises(GdnbenchError, match="max_loss"):
        expand(load_preset(str(path)), {})


@pytest.mark.parametrize("name", preset_names())
def test_presets_that_ship_expand(name):
    plan = expand(load_preset(name), {})
    assert plan.runs
    for spec in plan.runs:
        _sized(spec)
