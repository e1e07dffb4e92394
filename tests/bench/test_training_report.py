"""The report of a set of training speeds: every number from a record, no time where the gate is red, the README's."""

import csv
import json

import pytest
import yaml

from gdnbench.errors import GdnbenchError
from gdnbench.measure.training.grid import cases
from gdnbench.report import render
from gdnbench.report.readme import TRAINING, training_block, update_readme
from gdnbench.report.speeds import groups
from gdnbench.report.statistics import ratio_of_means
from tests.bench import planted
from tests.bench.planted_training import Planter, full_set

COMMAND = "gdnbench report h200-train"
GDN = "gdn (controlled)"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return full_set(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def report(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("reports") / "h200-train"
    render(store, out, command=COMMAND)
    return out


def table(report, name):
    with (report / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def text(report):
    return (report / "report.md").read_text(encoding="utf-8").replace("\\", "")


def test_it_has_its_tables_and_its_figure(report):
    names = {path.stem for path in (report / "tables").glob("*.csv")}
    assert names == {"training_speed", "training_parts_gdn_controlled_gdnbench", "environments", "runs"}
    figures = {path.name for path in (report / "figures").glob("*.png")}
    assert figures == {"training_waterfall_gdn_controlled_gdnbench.png"}
    assert "Training speed on NVIDIA H200" in (report / "index.html").read_text(encoding="utf-8")


def test_a_row_says_what_its_record_says(store, report):
    records = {record.run_id: record for record in store.records()}
    rows = table(report, "training_speed")
    assert len(rows) == len(records)
    for row in rows:
        record = records[row["runs"]]
        for column, name in (("tokens/s", "tokens_per_s"), ("peak memory (GiB)", "peak_gib"), ("MFU", "mfu")):
            if record.metric("tokens_per_s") is not None:
                assert float(row[column]) == record.metric(name)
    first = rows[0]
    assert (first["model"], first["implementation"]) == (GDN, "gdnbench"), "ours first"
    assert rows[1]["implementation"] == "gdnbench_float32_residual", "then other ways of ours"
    rest = [float(row["tokens/s"]) for row in rows[2:] if row["model"] == GDN]
    assert rest == sorted(rest, reverse=True), "then the peers, the fastest first"
    assert "times gdnbench_float32" not in text(report), "our own step is no peer of itself"


def test_the_ratio_is_ours_over_the_row(report):
    rows = {row["implementation"]: row for row in table(report, "training_speed") if row["model"] == GDN}
    eager = rows["fla_eager"]
    assert float(eager["ours over it"]) == pytest.approx(206 / 128, rel=0.01)
    assert float(eager["ours over it: low"]) < float(eager["ours over it"]) < float(eager["ours over it: high"])
    assert float(eager["our memory over it"]) == pytest.approx(20.5 / 36.9)
    assert rows["gdnbench"]["ours over it"] == ""
    assert "1.61 [1.6" in text(report)


def test_models_of_other_parameters_have_no_ratio(tmp_path):
    import dataclasses

    planter = Planter(tmp_path)
    ours, peer = cases(device="cuda", archs=["gdn"], impls=["gdnbench", "fla_eager"])
    planter.measured(ours, planter.stepped(ours))
    planter.measured(peer, dataclasses.replace(planter.stepped(peer), params_total=130_000_000))
    out = tmp_path / "r"
    render(planter.store, out, command=COMMAND)
    row = next(row for row in table(out, "training_speed") if row["implementation"] == "fla_eager")
    assert row["ours over it"] == "not the same work: the parameters differ"
    assert "no peer of the same work was timed" in text(out)


def test_a_red_gate_and_a_missing_peer_have_reasons_and_no_time(report):
    rows = {(row["model"], row["implementation"]): row for row in table(report, "training_speed")}
    assert rows["rwkv7 (controlled)", "gdnbench"]["tokens/s"].startswith("red: it does not train")
    assert "mamba-ssm is missing" in rows["mamba2 (native)", "fla_eager"]["tokens/s"]
    assert "--batch 16 fits" in rows["hybrid (controlled)", "gdnbench"]["tokens/s"]
    assert "The check is red, and no time is shown, for rwkv7-controlled" in text(report)
    assert "These broke: hybrid-controlled" in text(report)


def test_the_parts_sum_to_the_step_and_unknown_kernels_are_shown(store, report):
    parts = {row["part"]: row for row in table(report, "training_parts_gdn_controlled_gdnbench")}
    (record,) = [r for r in store.records() if (r.spec["arch"], r.spec["impl"]) == ("gdn", "gdnbench")]
    assert sum(float(row["measured (ms)"]) for row in parts.values()) == pytest.approx(record.metric("step_ms"))
    floors = [float(row["floor (ms)"]) for row in parts.values() if row["floor (ms)"]]
    assert sum(floors) == pytest.approx(record.metric("floor_ms"))
    assert float(parts["other"]["measured (ms)"]) == 2.2
    assert "somebodys_new_kernel 2.20" in parts["other"]["longest kernels (ms)"]
    assert float(parts["matrix products"]["above (ms)"]) == pytest.approx(74.5 - 68.55, abs=0.02)


def test_a_part_far_above_its_floor_wants_a_note(tmp_path):
    store = full_set(tmp_path)
    named = "gdn controlled gdnbench: idle"
    render(store, tmp_path / "a", command=COMMAND)
    assert f"without a note: {named}" in text(tmp_path / "a")
    (store.folder / "notes.yaml").write_text(yaml.safe_dump({named: "the host is late"}), encoding="utf-8")
    render(store, tmp_path / "b", command=COMMAND)
    assert f"{named}: the host is late" in text(tmp_path / "b")
    assert f"without a note: {named}" not in text(tmp_path / "b")


def test_equal_records_give_equal_pages(store, report, tmp_path):
    render(store, tmp_path / "again", command=COMMAND)
    for path in sorted(report.rglob("*")):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(report)).read_bytes() == path.read_bytes(), path.name
    manifest = json.loads((report / "manifest.json").read_text())
    assert len(manifest["runs"]) == len(store.records())


def test_a_set_of_both_kinds_is_refused(tmp_path):
    store = full_set(tmp_path)
    other = planted.Planter(tmp_path, store.name)
    other.refused(other.case("fla"), "not installed")
    with pytest.raises(GdnbenchError, match="a set of its own"):
        render(store, tmp_path / "r", command=COMMAND)


def test_the_readmes_block_says_what_the_records_say(store, tmp_path):
    block = training_block(store.records())
    row = next(line for line in block.splitlines() if line.startswith(f"| {GDN} | fla_eager |"))
    record = next(r for r in store.records() if (r.spec["arch"], r.spec["impl"]) == ("gdn", "fla_eager"))
    assert f"| {record.metric('tokens_per_s'):,.0f} | 1.61 |" in row
    assert row.endswith(f"| {record.commit} |")
    assert "rwkv7 (controlled)" not in block, "red: no time"
    path = tmp_path / "README.md"
    path.write_text(f"{TRAINING.begin}\nold\n{TRAINING.end}\n", encoding="utf-8")
    update_readme(path, store.records())
    assert path.read_text(encoding="utf-8") == f"{TRAINING.begin}\n{block}\n{TRAINING.end}\n"


def test_sizes_do_not_mix(tmp_path):
    planter = Planter(tmp_path)
    for batch in (16, 32):
        for case in cases(device="cuda", archs=["gdn"], impls=["gdnbench", "fla_eager"], batch=batch):
            planter.measured(case, planter.stepped(case))
    found = groups(planter.store.records(), planter.store.rows)
    assert [group.size for group in found] == [
        f"width 768, depth 12, batch {batch} x 2048, bfloat16" for batch in (16, 32)
    ]


def test_a_ratio_of_means_covers_what_it_was_made_from():
    above, below = [20.0, 22.0, 24.0, 22.0], [10.0, 11.0, 12.0]
    ratio = ratio_of_means(above, below)
    assert ratio.mean == pytest.approx(2.0)
    assert ratio.low < 2.0 < ratio.high
    assert ratio == ratio_of_means(above, below)
    assert ratio_of_means([], below) is None
