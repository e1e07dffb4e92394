"""What a bench has left to measure: counted by its own grid and the store, expected by stored times, on the page."""

import csv
import dataclasses
import json

import pytest

from gdnbench.errors import GdnbenchError
from gdnbench.measure.kernels.case import Shape
from gdnbench.measure.training.grid import cases
from gdnbench.report import render
from gdnbench.runs import bench_left, kernels, training
from tests.bench import planted
from tests.bench.planted_training import Planter, full_set

NAME = "h200-train"
HELD = ("gdn", "transformer")  # architectures whose own step is stored


def content(root, kind="train_throughput", name=NAME):
    return json.loads((root / name / f"{kind}.left.json").read_text(encoding="utf-8"))


def page(store, out):
    render(store, out, command=f"gdnbench report {store.name}")
    return (out / "report.md").read_text(encoding="utf-8").replace("\\", "")


@pytest.fixture
def part(tmp_path):
    """A set that holds our own step of two models."""
    planter = Planter(tmp_path)
    for case in cases(device="cuda", archs=HELD, impls=["gdnbench"]):
        planter.measured(case, planter.stepped(case))
    return planter.store


def test_the_file_and_the_table_agree_with_the_store(part, tmp_path):
    grid = cases(device="cuda")
    left = training.plan(grid, tmp_path, NAME)
    said = content(tmp_path)
    stored = {record.run_id for record in part.records()}
    missing = [case for case in grid if case.run_id not in stored]
    rows = [(f"{case.model.arch} ({case.model.block})", case.impl, 1) for case in missing]
    assert [(row["model"], row["impl"], row["measurements"]) for row in said["rows"]] == rows
    assert (said["stored"], left.stored, left.left) == (len(stored), len(stored), len(missing))
    assert said["command"] == f"gdnbench bench train --set {NAME}"
    # A planted record took 60 s; nothing is expected of an implementation that has none.
    assert {row["impl"]: row["seconds"] for row in said["rows"] if row["impl"] == "gdnbench"} == {"gdnbench": 60.0}
    assert all(row["seconds"] is None for row in said["rows"] if row["impl"] != "gdnbench")

    text = page(part, tmp_path / "out")
    with (tmp_path / "out/tables/left.csv").open(encoding="utf-8", newline="") as file:
        shown = list(csv.DictReader(file))
    assert [(row["model or operation"], row["implementation"], int(row["measurements"])) for row in shown] == rows
    minutes = {row["expected minutes"] for row in shown if row["implementation"] == "gdnbench"}
    assert {float(value) for value in minutes} == {1.0}
    assert {row["expected minutes"] for row in shown if row["implementation"] != "gdnbench"} == {"–"}
    assert f"This set is not complete: {len(missing)} of {len(grid)} measurements of the bench are left" in text
    assert text.count(said["command"] + "\n") == 2, "what stored the records, and what goes on"
    assert f"measures again {len(stored)} of the {len(stored)} that the set holds" in text, "planted: other sources"


def test_what_is_asked_for_is_said_and_the_own_grid_is_left_in_the_set(part, tmp_path):
    asked = training.plan(cases(device="cuda", archs=["hybrid"], batch=4), tmp_path, NAME)
    assert [(row.model, row.left) for row in asked.rows] == [("hybrid (controlled)", 1)]
    whole = training.plan(cases(device="cuda"), tmp_path, NAME)
    assert sum(row["measurements"] for row in content(tmp_path)["rows"]) == whole.left > 1


def test_a_set_that_holds_everything_has_no_table(tmp_path):
    store = full_set(tmp_path)
    left = training.plan(cases(device="cuda"), tmp_path, NAME)
    said = content(tmp_path)
    assert (left.left, said["rows"], said["stored"]) == (0, [], len(store.records()))
    assert said["command"].endswith(" --profile"), "the set has a profile"
    text = page(store, tmp_path / "out")
    assert "What is left" not in text and "not complete" not in text
    assert not (tmp_path / "out/tables/left.csv").exists()


def test_a_set_without_the_file_has_no_table(part, tmp_path):
    assert "What is left" not in page(part, tmp_path / "out")


def test_a_damaged_file_is_one_clear_line(part, tmp_path):
    path = part.folder / "train_throughput.left.json"
    path.write_text('{"rows": [', encoding="utf-8")
    with pytest.raises(GdnbenchError, match=r"train_throughput\.left\.json: not readable as JSON: .*; remove it"):
        page(part, tmp_path / "out")
    path.unlink()
    page(part, tmp_path / "out")


def test_a_record_of_these_sources_and_settings_is_not_measured_again(part, tmp_path):
    (case,) = cases(device="cuda", archs=["gdn"], impls=["gdnbench"])
    changed = training.plan([case], tmp_path, NAME)
    assert (changed.again, changed.again_s) == (1, 60.0)
    assert "expected besides: 1.0 min for those measured again" in changed.lines()[-1]
    record = part.read(case.run_id)
    part.write(dataclasses.replace(record, source_digest=training.training_digest(case.model)))
    assert training.plan([case], tmp_path, NAME).again == 0
    assert training.plan([dataclasses.replace(case, steps=7)], tmp_path, NAME).again == 1
    assert training.plan([case], tmp_path, NAME, profile=True).again == 1, "it has no profile"


def test_kernels_side_by_side_share_their_seconds(tmp_path):
    """A record of a group has the seconds of the whole group; a refusal tells nothing of how long a time takes."""
    planter = planted.Planter(tmp_path, "k")
    planter.group([planter.case(impl) for impl in ("triton", "fla")], {"triton": 1.0, "fla": 2.0})
    planter.refused(planter.case("flash_qla"), "it is not installed")
    shape = Shape(1, 4096, 16, 128, 128)
    asked = [
        bench_left.Planned(run_id=case.run_id, spec=case.spec(), model=case.op, holds=lambda record: True)
        for case in (
            planter.case(impl, at) for impl in ("triton", "flash_qla") for at in (shape, planter.case(impl).shape)
        )
    ]
    left = bench_left.count(kernels.COMMAND, asked, planter.store, device="cuda")
    assert [(row.impl, row.stored, row.left, row.seconds) for row in left.rows] == [
        ("triton", 1, 1, 0.5), ("flash_qla", 1, 1, None),
    ]  # fmt: skip


def test_a_set_of_another_kind_is_refused_before_anything_is_written(tmp_path):
    """A page is of one kind."""
    planter = planted.Planter(tmp_path, NAME)
    planter.refused(planter.case("fla"), "not installed")
    with pytest.raises(GdnbenchError, match="holds records of kind kernel; training speeds need a set of their own"):
        training.plan(cases(device="cuda"), tmp_path, NAME)
    assert not (tmp_path / NAME / "train_throughput.left.json").exists()


def test_a_look_at_another_device_expects_nothing_of_this_one_and_leaves_its_page_alone(tmp_path):
    full_set(tmp_path)
    training.plan(cases(device="cuda"), tmp_path, NAME)
    before = content(tmp_path)
    other = training.plan(cases(device="cpu"), tmp_path, NAME)
    assert other.left and all(row.seconds is None for row in other.rows)
    assert content(tmp_path) == before
