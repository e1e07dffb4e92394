"""The report of a set of kernels and the README's table: every number from a record, no time where a check is red."""

import csv
import json

import pytest
import yaml

from gdnbench.errors import GdnbenchError
from gdnbench.report import render
from gdnbench.report.readme import KERNELS, TRAINING, kernel_block, update_readme
from gdnbench.results import Store
from tests.bench.planted import SHAPES, Planter, full_set
from tests.runs.tiny import ROOT

COMMAND = "gdnbench report h200-kernels"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return full_set(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="module")
def report(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("reports") / "h200-kernels"
    render(store, out, command=COMMAND)
    return out


def table(report, name):
    with (report / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_has_its_tables_and_figures(report):
    names = {path.stem for path in (report / "tables").glob("*.csv")}
    assert {
        "kernels_given_forward", "kernels_given_forward_backward", "kernels_raw_forward", "kernels_step",
        "kernels_gating", "kernels_first_call", "kernels_mixers", "environments", "runs",
    } <= names  # fmt: skip
    assert {path.name for path in (report / "figures").glob("*.png")} == {
        "kernels_roofline.png", "kernels_over_floor.png",
    }  # fmt: skip
    text = (report / "index.html").read_text(encoding="utf-8")
    assert "Kernels on NVIDIA H200" in text
    assert "claim" not in text.split("<main>")[1].lower(), "no claim of the sources is about these numbers"


def test_a_row_says_what_its_record_says(store, report):
    rows = table(report, "kernels_given_forward")
    row = next(r for r in rows if r["B, T, H, K, V"] == "8, 4096, 16, 128, 128" and r["backend"] == "triton")
    records = [r for r in store.records() if r.run_id in row["runs"].split()]
    device = next(record for record in records if record.spec["timing"] == "device")
    assert float(row["device (ms)"]) == device.metric("ms")
    assert float(row["ratio to peer"]) == device.metric("peer_ratio")
    assert float(row["ratio to peer: low"]) == device.metric("peer_ratio_low")
    assert float(row["time over floor"]) == pytest.approx(2.2, rel=0.02)
    assert float(row["output error"]) == 3e-3


def test_ours_and_the_peers_are_beside_one_another(report):
    rows = table(report, "kernels_given_forward")
    first = [row["backend"] for row in rows if row["B, T, H, K, V"] == "8, 4096, 16, 128, 128"]
    assert first[:3] == ["triton", "fla", "flash_qla"]


def test_a_refusal_stands_where_the_time_would(report):
    rows = table(report, "kernels_given_forward")
    row = next(r for r in rows if r["B, T, H, K, V"] == "60, 1024, 6, 32, 64" and r["backend"] == "flash_qla")
    assert "K is 32, wants 128" in row["device (ms)"]


def test_a_red_check_stands_where_the_time_would(report):
    (row,) = [row for row in table(report, "kernels_given_forward") if row["gates"] == "no decay"]
    assert row["device (ms)"].startswith("wrong: output 3.1e-01")
    assert row["time over floor"] == ""
    assert "The check is red" in (report / "report.md").read_text(encoding="utf-8")


def test_the_cost_of_the_gating_normalization_is_a_ratio_with_an_interval(report):
    for row in table(report, "kernels_gating"):
        cost = "time with over time without"
        assert float(row[f"{cost}: low"]) <= float(row[cost]) <= float(row[f"{cost}: high"])
        assert float(row[cost]) == pytest.approx(1, abs=0.01)


def test_other_mixers_stand_beside_our_rule(report):
    rows = table(report, "kernels_mixers")
    assert {row["backend"] for row in rows} == {"triton", "flash", "mamba_ssm"}
    assert all("cannot be imported" in row["device (ms)"] for row in rows if row["backend"] == "mamba_ssm")


def test_a_step_has_its_share_of_copy_bandwidth(report):
    shares = {row["backend"]: float(row["share of copy bandwidth"]) for row in table(report, "kernels_step")}
    assert shares["triton"] == pytest.approx(1 / 1.15, rel=0.02)
    assert shares["fla"] == pytest.approx(0.5, rel=0.02)


def test_every_run_that_is_linked_is_there(report):
    text = (report / "report.md").read_text(encoding="utf-8")
    linked = {part.split(")")[0] for part in text.split("(#run-")[1:]}
    assert linked
    assert all(f'id="run-{run}"' in text for run in linked)


def test_the_manifest_names_every_record(store, report):
    manifest = json.loads((report / "manifest.json").read_text(encoding="utf-8"))
    assert set(manifest["runs"]) == {record.run_id for record in store.records()}


def test_equal_records_give_equal_bytes(store, report, tmp_path):
    render(store, tmp_path / "again", command=COMMAND)
    for path in report.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(report)).read_bytes(), path


def test_far_from_the_floor_wants_a_note(tmp_path):
    planter = Planter(tmp_path)
    planter.group([planter.case(impl, SHAPES[2]) for impl in ("triton", "fla")], {"triton": 4.0, "fla": 8.0})
    name = "triton 60, 1024, 6, 32, 64 forward"
    page = render(planter.store, tmp_path / "r", command=COMMAND).with_name("report.md")
    assert f"Over 3 times the floor without a note: {name}" in page.read_text(encoding="utf-8")
    notes = planter.store.folder / "notes.yaml"
    notes.write_text(yaml.safe_dump({name: "T and P cross memory, as large as q and k."}), encoding="utf-8")
    text = render(planter.store, tmp_path / "r", command=COMMAND).with_name("report.md").read_text(encoding="utf-8")
    assert "without a note" not in text
    assert "T and P cross memory" in text


def test_a_set_without_our_backend_still_renders(tmp_path):
    planter = Planter(tmp_path)
    planter.group([planter.case("torch", timing="eager")], {"torch": 50.0}, peer="")
    render(planter.store, tmp_path / "r", command=COMMAND)
    assert kernel_block(planter.store.records()) == "No timing is stored yet."


def test_a_set_with_nothing_but_refusals_still_renders(tmp_path):
    planter = Planter(tmp_path)
    planter.refused(planter.case("fla"), "fla is not installed")
    assert "fla is not installed" in render(planter.store, tmp_path / "r", command=COMMAND).read_text(encoding="utf-8")


def test_the_readmes_block_says_what_the_records_say(store):
    block = kernel_block(store.records())
    assert f"(gdnbench at {store.records()[0].commit}):" in block
    row = next(line for line in block.splitlines() if line.startswith("| 8, 4096, 16, 128, 128 |"))
    ours = [r for r in store.records() if r.spec["impl"] == "triton" and (r.spec["B"], r.spec["T"]) == (8, 4096)]
    (device,) = [
        r for r in ours
        if (r.spec["K"], r.spec["gates"], r.spec["qk_norm"], r.spec["direction"], r.spec["timing"], r.spec["variant"])
        == (128, "default", "given", "forward", "device", "")
    ]  # fmt: skip
    assert f"| {device.metric('ms'):.3f} |" in row
    assert f"{device.metric('peer_ratio'):.2f} [" in row
    assert "–" in next(line for line in block.splitlines() if line.startswith("| 60, 1024")), "FlashQLA serves it not"


def test_the_block_is_replaced_and_nothing_else(tmp_path, store):
    path = tmp_path / "README.md"
    begin, end = KERNELS.begin, KERNELS.end
    path.write_text(f"before\n{begin}\nold\n{end}\nafter\n", encoding="utf-8")
    update_readme(path, store.records())
    text = path.read_text(encoding="utf-8")
    assert text == f"before\n{begin}\n{kernel_block(store.records())}\n{end}\nafter\n"
    update_readme(path, store.records())
    assert path.read_text(encoding="utf-8") == text


def test_a_file_without_marks_is_an_error(tmp_path):
    with pytest.raises(GdnbenchError, match="expected the lines"):
        update_readme(tmp_path / "none.md", [])


def test_this_readme_shows_what_is_stored():
    """Written by `gdnbench report SET --readme README.md`, never by hand."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for part in (KERNELS, TRAINING):
        assert part.replaced(text, Store(ROOT / "results", part.set).records(), "README.md") == text
