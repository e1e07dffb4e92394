"""The quality check: stored numbers are met, a changed constant is found, a rearranged formula is not."""

import hashlib
import json

import pytest
import torch
from gdnbench_baselines import gdn
from gdnbench_kernels.gated_delta.impl import torch as chunked

from gdnbench.errors import GdnbenchError
from gdnbench.models import registry
from gdnbench.quality import cases, check
from gdnbench.quality.fingerprint import fingerprint
from gdnbench.quality.stored import PATH, Stored, differences
from gdnbench.quality.training import write_text

CASE = "gdn, mup_gdn, adamw"


@pytest.fixture(scope="module")
def stored():
    return Stored.load().parts


@pytest.fixture
def found(stored):
    """Return a function that computes a case again and returns what differs."""
    specs = cases.fingerprints()

    def compare(name=CASE):
        now = fingerprint(specs[name])
        return list(differences(name, stored["fingerprints"][name], now, check.PARTS["fingerprints"].tolerance))

    return compare


def test_every_case_is_stored_and_every_mixer_has_one(stored):
    assert set(stored["fingerprints"]) == set(cases.fingerprints())
    assert set(stored["trainings"]) == set(cases.trainings())
    archs = {spec.model.arch for spec in cases.fingerprints().values()}
    assert {"kimi_delta", "gdn_negative"} <= archs
    assert archs >= {name for name in registry.names() if registry.find(name).__module__.startswith("gdnbench_")}


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """The examples' mixers are known to these tests alone."""
    monkeypatch.setattr(registry, "_added", dict(registry._added))


@pytest.fixture(autouse=True)
def one_thread():
    """As in the check's processes; several would wait for each other where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", [CASE, "hybrid, sp, sgd", "rwkv7 native, mup_derived, sgd"])
def test_numbers_are_as_stored(found, name):
    assert not found(name)


def test_a_changed_constant_of_a_mixer_is_found(found, monkeypatch):
    held = vars(gdn.GatedDeltaNet)["forward"]

    def planted(self, x, *arguments, **settings):
        return held(self, x * (1 + 1e-6), *arguments, **settings)

    monkeypatch.setattr(gdn.GatedDeltaNet, "forward", planted)
    first = found()[0]
    assert first.name == "loss of step 1", "the first place where it shows"
    assert abs(first.now / first.stored - 1) < 1e-5


def test_rearranged_sums_are_not(found, monkeypatch):
    """Chunks of another length: the same rule by other sums."""
    held = chunked.CHUNK_SIZE
    monkeypatch.setattr(chunked, "CHUNK_SIZE", held // 2)
    assert not found()


def test_a_number_that_is_none_differs_and_one_that_cancels_out_does_not():
    stored = {"loss of step 1": 2.0, "gradient of hidden": 1.0, "gradient of gate": 1e-12}
    assert not list(differences("c", stored, {**stored, "gradient of gate": 1.005e-12}, 1e-8))
    for value in (float("nan"), 2.0 + 3e-8):
        (one,) = differences("c", stored, {**stored, "loss of step 1": value}, 1e-8)
        assert one.name == "loss of step 1"
    assert [d.name for d in differences("c", stored, {}, 1e-8)] == list(stored)


@pytest.fixture
def few(monkeypatch):
    """Let the check compute two fingerprints, in this process."""

    class Here:
        def __init__(self, *arguments, **settings): ...
        def __enter__(self):
            return self

        def __exit__(self, *error): ...
        def map(self, function, items):
            return map(function, items)

    monkeypatch.setattr(check, "ProcessPoolExecutor", Here)
    names = (CASE, "transformer, sp, sgd")
    specs = {name: spec for name, spec in cases.fingerprints().items() if name in names}
    part = check.Part(specs=lambda: specs, compute=fingerprint, tolerance=1e-8)
    monkeypatch.setattr(check, "PARTS", {"fingerprints": part})
    return {"parts": ["fingerprints"]}


def test_an_update_prints_old_new_and_reason_and_keeps_what_did_not_change(few, tmp_path):
    path = tmp_path / "stored.json"
    lines, code = check.check(**few, path=path, update=True, reason="first")
    assert code == 0
    assert check.check(**few, path=path)[1] == 0
    content = json.loads(path.read_text())
    kept = content["fingerprints"]["transformer, sp, sgd"]
    kept["loss of step 1"] *= 1 + 1e-10
    content["fingerprints"][CASE]["loss of step 3"] = 1.5
    path.write_text(json.dumps(content))
    lines, code = check.check(**few, path=path)
    assert code == 1
    assert any("loss of step 3" in line and "1.5" in line for line in lines)
    assert any("gdn (1)" in line for line in lines)
    lines, code = check.check(**few, path=path, update=True, reason="a better epsilon")
    assert code == 0
    assert "a better epsilon" in lines[-1]
    assert any("loss of step 3" in line and "1.5" in line for line in lines)
    now = json.loads(path.read_text())
    assert now["reason"] == "a better epsilon"
    assert now["fingerprints"]["transformer, sp, sgd"]["loss of step 1"] == pytest.approx(
        kept["loss of step 1"], rel=1e-12
    )
    assert check.check(**few, path=path)[1] == 0


@pytest.mark.parametrize("wrong", [{"update": True}, {"update": True, "reason": " "}, {"reason": "why"}])
def test_an_update_needs_its_reason(few, wrong):
    with pytest.raises(GdnbenchError, match="go together"):
        check.check(**few, **wrong)


def test_where_there_is_no_checkout_the_examples_are_left_out(stored, monkeypatch, tmp_path):
    monkeypatch.setattr(cases, "EXAMPLES", tmp_path / "none")
    left = set(stored["fingerprints"]) - set(cases.fingerprints())
    assert left
    assert all(map(cases.elsewhere, left))
    assert not any(map(cases.elsewhere, cases.fingerprints()))


def test_values_that_are_damaged_say_what_makes_them(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(GdnbenchError, match="quality check --update"):
        Stored.load(tmp_path / "x.json")


def test_the_stored_file_is_written_as_it_is_read(tmp_path):
    Stored.load().save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == PATH.read_text()


def test_the_text_of_the_trainings_never_changes(tmp_path):
    write_text(tmp_path / "text")
    held = hashlib.sha256((tmp_path / "text" / "train.txt").read_bytes()).hexdigest()
    assert held.startswith("7e5b9e890b3f7363")
