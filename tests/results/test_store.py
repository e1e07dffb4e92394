"""A record is there whole or not at all; what is damaged is set aside by name and counts as missing."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from gdnbench.configuration import digest, to_mapping
from gdnbench.errors import GdnbenchError
from gdnbench.models import ModelConfig
from gdnbench.plan.spec import RunSpec, Training
from gdnbench.results import SCHEMA_VERSION, Record, Store
from gdnbench.results.record import metric
from gdnbench.results.store import Busy, open_set, rows_hash
from gdnbench.runs.rows import Rows

SPEC = RunSpec(experiment="e", arm="a", model=ModelConfig(arch="gdn", width=32), training=Training())
ROWS = [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.25}]


def record(run_id: str = "r", **changes) -> Record:
    values = {
        "run_id": run_id,
        "set": "s",
        "kind": "train",
        "outcome": "finished",
        "spec": to_mapping(SPEC),
        "metrics": {"val_loss": metric(2.25, "nat/token")},
        "rows_sha256": "",
        "source_digest": "0" * 64,
        "data": {},
        "environment": {"device": "cpu"},
        "started": "2026-01-01T00:00:00+00:00",
        "duration_s": 1.0,
    }
    return Record(**{**values, **changes})


def stored(root: Path, run_id: str = "r", **changes) -> Store:
    store = Store(root, "s")
    rows = Rows(store.rows_path(run_id), 0)
    for row in ROWS:
        rows.append(row)
    rows.close()
    store.write(record(run_id, **changes))
    return store


def run_json(store: Store, run_id: str = "r") -> Path:
    return store.run_folder(run_id) / "run.json"


def test_what_is_written_is_read(tmp_path):
    store = stored(tmp_path, notes=("μ",))
    read = store.read("r")
    assert read == record(notes=("μ",), rows_sha256=rows_hash(store.rows_path("r")))
    assert store.rows("r") == ROWS
    assert [entry.run_id for entry in store.records()] == ["r"]
    assert not store.damaged


def test_a_record_is_one_sorted_text_with_its_schema(tmp_path):
    content = json.loads(run_json(stored(tmp_path)).read_text(encoding="utf-8"))
    assert list(content) == sorted(content), "keys in order, so that differences between records are small"
    assert content["schema"] == SCHEMA_VERSION
    assert content.pop("checksum") == digest(content)


def changed_number(path: Path) -> None:
    path.write_text(path.read_text().replace('"value": 2.25', '"value": 1.25'))


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "changed number": changed_number,
    "half written": half,
    "empty": lambda path: path.write_text(""),
    "zeros": lambda path: path.write_bytes(bytes(500)),
    "no checksum": lambda path: path.write_text('{"schema": 1}'),
    "a list": lambda path: path.write_text("[1]"),
    "a number": lambda path: path.write_text("3"),
    "a list of a checksum": lambda path: path.write_text('["checksum"]'),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_record_is_set_aside_and_named(tmp_path, damage):
    store = stored(tmp_path)
    stored(tmp_path, "other")
    damage(run_json(store))
    assert [entry.run_id for entry in store.records()] == ["other"]
    (line,) = store.damaged
    assert str(run_json(store)) in line
    assert "run.json.corrupt" in line
    assert "\n" not in line
    assert run_json(store).with_name("run.json.corrupt").exists()
    assert not run_json(store).exists()


@pytest.mark.parametrize("damage", ["changed", "shortened", "longer", "gone"])
def test_rows_that_are_not_those_of_the_record_are_damage(tmp_path, damage):
    store = stored(tmp_path)
    path = store.rows_path("r")
    text = path.read_text()
    if damage == "gone":
        path.unlink()
    else:
        path.write_text({"changed": text.replace("2.5", "2.4"), "shortened": text[:-5], "longer": text * 2}[damage])
    assert store.read("r") is None
    assert "metrics.jsonl" in store.damaged[0]
    assert not run_json(store).exists()


def test_a_run_that_was_set_aside_can_be_stored_again_and_damaged_again(tmp_path):
    for _ in range(3):
        store = stored(tmp_path)
        half(run_json(store))
        assert store.read("r") is None
    aside = {path.name for path in store.run_folder("r").glob("run.json.*")}
    assert aside == {"run.json.corrupt", "run.json.corrupt1", "run.json.corrupt2"}
    assert stored(tmp_path).read("r") is not None


def test_a_damaged_record_takes_its_checkpoint_with_it(tmp_path):
    store = stored(tmp_path)
    store.checkpoint_path("r").write_bytes(b"x")
    half(run_json(store))
    assert store.read("r") is None
    assert not store.checkpoint_path("r").exists()


@pytest.mark.parametrize("schema", [SCHEMA_VERSION + 1, 0])
def test_another_schema_is_an_error_and_nothing_is_touched(tmp_path, schema):
    store = stored(tmp_path, schema=schema)
    before = run_json(store).read_bytes()
    with pytest.raises(GdnbenchError, match=rf"schema {schema}.*reads {SCHEMA_VERSION}"):
        store.records()
    assert run_json(store).read_bytes() == before


def test_a_set_that_does_not_exist(tmp_path):
    stored(tmp_path)
    (tmp_path / "unrelated").mkdir()
    with pytest.raises(GdnbenchError, match="'t'"):
        open_set(tmp_path, "t")
    with pytest.raises(GdnbenchError):
        open_set(tmp_path / "none", "s")
    assert open_set(tmp_path, "s").read("r") is not None


def test_a_record_copied_under_another_id_is_not_a_second_result(tmp_path):
    store = stored(tmp_path)
    copy = store.run_folder("copy")
    copy.mkdir()
    for path in (run_json(store), store.rows_path("r")):
        (copy / path.name).write_bytes(path.read_bytes())
    assert [entry.run_id for entry in store.records()] == ["r"]


def test_a_number_that_json_does_not_have_is_not_stored(tmp_path):
    store = Store(tmp_path, "s")
    with pytest.raises(ValueError, match="JSON"):
        store.write(record(metrics={"val_loss": metric(float("nan"), "nat/token")}))
    assert not run_json(store).exists()


def hold(root, ready, forever):
    with Store(root, "s").lease("r"):
        ready.set()
        forever.wait()


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lease of run ``r``."""
    context = multiprocessing.get_context("spawn")
    ready, forever = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, forever))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


def test_a_lease_is_one_processs_until_it_dies(tmp_path, holder):
    store = Store(tmp_path, "s")
    with pytest.raises(Busy, match="r: another process"), store.lease("r"):
        pass
    with store.lease("another run"):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with store.lease("r"):
        pass


def test_a_run_that_is_being_run_again_is_not_set_aside_a_second_time(tmp_path, holder):
    """Two processes find the same damage: the slower one must not take the files of the faster one's new run."""
    store = stored(tmp_path)
    half(run_json(store))
    assert store.read("r") is None
    assert store.rows_path("r").exists(), "these are the rows of the process that holds the lease"


def test_a_lease_in_the_same_process_ends_with_its_block(tmp_path):
    store = Store(tmp_path, "s")
    for _ in range(2):
        with store.lease("r"), pytest.raises(Busy), Store(tmp_path, "s").lease("r"):
            pass


def test_rows_are_cut_back_to_what_a_checkpoint_knows(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = Rows(path, 0)
    rows.append(ROWS[0])
    good = rows.flush()
    rows.append(ROWS[1])
    rows.close()
    assert path.stat().st_size > good
    rows = Rows(path, good)
    rows.append({"step": 2, "loss": 9.0})
    rows.close()
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [2.5, 9.0]


def test_a_stale_temporary_file_of_a_killed_writer_is_swept_away(tmp_path):
    store = stored(tmp_path)
    left = run_json(store).with_name(".run.json.99999-abcd.tmp")
    left.write_text("half")
    os.utime(left, (time.time() - 10**6,) * 2)
    assert stored(tmp_path).read("r") is not None
    assert not left.exists()
