"""`gdnbench results` gives flat tables with the names that the documentation promises."""

import io
import json

import pandas as pd
import pytest

from gdnbench.configuration import from_mapping
from gdnbench.plan.expand import expand
from gdnbench.presets import Preset
from gdnbench.results import Store
from gdnbench.results.export import to_csv, to_json
from gdnbench.runs.execute import execute
from gdnbench.runs.progress import Observer
from tests.runs.tiny import study, sweep

PROMISED = {
    *("run_id", "kind", "arch", "parametrization", "geometry", "width", "lr", "seed", "params_non_embedding"),
    *("train_tokens", "val_loss", "word_perplexity", "bits_per_byte", "tokens_per_s", "peak_gib", "impl", "device"),
    *("commit", "outcome"),
}
NOT_OF_COORDINATE_CHECKS = {"train_tokens", "val_loss", "bits_per_byte", "tokens_per_s", "peak_gib"}
NOT_OF_GENERATION = {"train_tokens", "val_loss", "bits_per_byte"}


@pytest.fixture(scope="module")
def records(tmp_path_factory, books):
    arms = [{"name": "G", "arch": "gdn", "table": "mup_gdn"}]
    experiments = [
        sweep(arms=arms, widths=[32]),
        {"name": "c", "kind": "coord_check", "widths": [16], "arms": arms},
        {"name": "d", "kind": "decode", "widths": [16], "contexts": [8], "arms": arms, "decode": {"tokens": 4}},
    ]
    store = Store(tmp_path_factory.mktemp("results"), "tiny")
    preset = from_mapping(Preset, study(*experiments, corpus=books), "tiny")
    for spec in expand(preset, {}).runs:
        execute(spec, store, Observer())
    return store.records()


def test_json_has_the_promised_names_where_they_apply(records):
    rows = {row["kind"]: row for row in json.loads(to_json(records))}
    assert rows["train"].keys() >= PROMISED
    assert rows["coord_check"].keys() >= PROMISED - NOT_OF_COORDINATE_CHECKS
    assert rows["decode"].keys() >= PROMISED - NOT_OF_GENERATION
    empty = [key for key in PROMISED if rows["train"][key] is None and key != "commit"]
    assert not empty, "a finished training run has a value for each"


def test_json_is_flat(records):
    for row in json.loads(to_json(records)):
        assert all(not isinstance(value, (dict, list)) for value in row.values())


def test_values_are_those_of_the_run(records):
    row = next(row for row in json.loads(to_json(records)) if row["kind"] == "train")
    assert (row["arch"], row["parametrization"], row["geometry"], row["width"]) == ("gdn", "mup_gdn", "paper", 32)
    assert (row["lr"], row["seed"], row["impl"], row["outcome"]) == (2.0**-7, 0, "torch", "finished")
    assert row["train_tokens"] == 12 * 2 * 16
    assert row["bits_per_byte"] == pytest.approx(row["val_loss"] / 0.6931471805599453, rel=0.05)


def test_pandas_reads_both(records):
    by_json = pd.read_json(io.StringIO(to_json(records)), precise_float=True).set_index("run_id")
    by_csv = pd.read_csv(io.StringIO(to_csv(records))).set_index("run_id")
    assert len(by_json) == len(by_csv) == 3
    assert set(by_json.columns) == set(by_csv.columns)
    train = by_csv["kind"] == "train"
    assert (by_csv.loc[train, "val_loss"] == by_json.loc[by_csv.index[train], "val_loss"]).all()


def test_an_empty_set_is_an_empty_table():
    assert json.loads(to_json([])) == []
    assert to_csv([]).strip() == ""


def test_a_metric_has_a_unit(records):
    for record in records:
        for name, entry in record.metrics.items():
            assert entry["unit"], name


def test_a_record_says_what_it_was_measured_on(records):
    for record in records:
        about = record.environment
        assert about["device"]
        assert about["backends"]
        assert {"torch", "numpy", "gdnbench"} <= about["versions"].keys()
        assert {"commit", "dirty", "driver", "threads", "deterministic"} <= about.keys()
        assert len(record.source_digest) == 64
        assert {"corpus_hash", "tokenizer_hash"} <= record.data.keys()
