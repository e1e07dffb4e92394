"""A run's id is the hash of its full configuration: the same everywhere, another one when anything changes."""

import dataclasses
import os
import subprocess
import sys

import pytest

from gdnbench.configuration import canonical_json, from_mapping, to_mapping
from gdnbench.data.tasks import Words
from gdnbench.models import ModelConfig, Parametrization
from gdnbench.plan.expand import expand
from gdnbench.plan.spec import Coordinates, Decode, Matched, Origin, RunSpec, Training
from gdnbench.presets import Preset
from tests.runs.tiny import ROOT, study, sweep

SPEC = RunSpec(
    experiment="e",
    arm="a",
    model=ModelConfig(arch="gdn", width=32, options={"gdn": {"heads": 2, "conv_size": 4}}),
    parametrization=Parametrization(table="mup_gdn", switches={"gate_sgd_rule": "hidden"}),
    training=Training(),
    matched=Matched(by="parameters", reference="a", deviation=0.0),
)
# Fields whose other value does not follow from their type.
OTHER = {
    "table": "sp",
    "switches": {},
    "geometry": "fixed_head",
    "block": "native",
    "mlp_rule": "paper",
    "mlp_width": 48,
    "options": {"gdn": {"heads": 4, "conv_size": 4}},
    "arch": "mamba2",
    "kind": "constant",
    "dtype": "float64",
    "residual": "bfloat16",
    "recompute": "cheap",
    "device": "cuda",
    "seconds": 1.0,
    "name": "sgd",
    "splits": ["valid", "test"],
    "betas": [0.9, 0.99],
    "coordinates": to_mapping(Coordinates()),
    "decode": to_mapping(Decode()),
    "keep_at": [4],
    "also": ["text:another"],
    "lengths": [16],
    "task": to_mapping(Words(group="s3")),
    "micro_batch": 4,
    "origin": to_mapping(Origin(run="another", step=4)),
}


def leaves(values, path=()):
    for key, value in values.items():
        deeper = isinstance(value, dict) and key not in OTHER
        yield from leaves(value, (*path, key)) if deeper else [(*path, key)]


def changed(values, path):
    key, *rest = path
    old = values[key]
    if rest:
        return {**values, key: changed(old, rest)}
    # `pattern` goes with another architecture only.
    if key == "pattern":
        return {**values, "arch": "hybrid", "pattern": "gdn"}
    other = OTHER.get(key)
    if other is None:
        other = not old if isinstance(old, bool) else old + 1 if isinstance(old, (int, float)) else f"{old}x"
    return {**values, key: other}


@pytest.mark.parametrize("path", list(leaves(to_mapping(SPEC))), ids=".".join)
def test_every_field_is_part_of_the_id_but_how_it_is_computed(path):
    other = from_mapping(RunSpec, changed(to_mapping(SPEC), path))
    assert other != SPEC
    assert (other.run_id == SPEC.run_id) == (path[0] == "execution")


def test_ids_of_before_a_field_was_added_stay():
    """The id that this specification had when there was no ``residual`` and no ``execution``."""
    assert SPEC.run_id == "e-gdn-mup_gdn-w32-s0-537d6d0d2b"


def test_the_order_of_keys_is_not():
    def reverse(values):
        return {k: reverse(v) for k, v in reversed(values.items())} if isinstance(values, dict) else values

    assert from_mapping(RunSpec, reverse(to_mapping(SPEC))).run_id == SPEC.run_id
    assert from_mapping(RunSpec, to_mapping(SPEC)) == SPEC


def test_ids_are_the_same_in_another_process_with_another_hash_seed():
    program = (
        "import sys; from gdnbench.configuration import from_mapping; from gdnbench.plan.spec import RunSpec; "
        "import json; print(from_mapping(RunSpec, json.loads(sys.argv[1])).run_id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, canonical_json(SPEC)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == SPEC.run_id


def test_an_id_is_a_readable_folder_name():
    assert SPEC.run_id.startswith("e-gdn-mup_gdn-w32-s0-")
    decode = dataclasses.replace(SPEC, training=None, matched=None, decode=Decode(context=64))
    assert "-c64-" in decode.run_id


def test_the_order_in_a_preset_changes_no_id():
    content = study(sweep(log2_lrs=[-9, -8, -7], refine="all", seeds=[0, 1]))
    backwards = {key: content[key] for key in reversed(content)}
    backwards["model"] = dict(reversed(content["model"].items()))
    first, second = (expand(from_mapping(Preset, values, "tiny"), {}) for values in (content, backwards))
    assert {s.run_id for s in first.runs} == {s.run_id for s in second.runs}
