"""The rendered report: complete, self-contained, the same for the same records, honest about what it lacks."""

import csv
import html.parser
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gdnbench.claims import catalogue
from gdnbench.errors import GdnbenchError
from gdnbench.report import render
from gdnbench.report.figures.style import apart
from gdnbench.report.sections.warnings import noted

COMMAND = "gdnbench report quick"


class Page(html.parser.HTMLParser):
    """Collects text, headings, ids and what a browser would load."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self, text: str):
        super().__init__()
        self.text: list[str] = []
        self.headings: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.all = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            elif name == "src" or (name in ("href", "xlink:href") and tag != "a" and not value.startswith("#")):
                self.loaded.append(value)
            elif name == "href" and tag == "a":
                self.links.append(value)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text.append(data)
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)


def read_csv(report: Path, name: str) -> list[dict[str, str]]:
    with (report / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def page(report) -> Page:
    return Page((report / "index.html").read_text(encoding="utf-8"))


def test_every_claim_and_section_is_there(report, page):
    for claim in catalogue().claims:
        assert claim.id in page.all and f"claim-{claim.id}" in page.ids
    markdown = (report / "report.md").read_text(encoding="utf-8")
    for title in (
        "1. Summary",
        "2. The article",
        "3. Learning-rate transfer",
        "5. Claims ledger",
        "6. How to reproduce",
    ):
        assert any(title in heading for heading in page.headings)
        assert f"## {title}" in markdown
    assert {row["id"] for row in read_csv(report, "claims")} == {claim.id for claim in catalogue().claims}


def test_html_is_well_formed_and_its_links_lead_somewhere(page):
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {link for link in page.links if link.removeprefix("#") not in page.ids} == set()


def test_nothing_is_loaded_from_elsewhere(report, page):
    text = (report / "index.html").read_text(encoding="utf-8")
    assert page.loaded == ["data:,"]
    assert "<script" not in text and "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []


def test_numbers_equal_the_records(store, report, page):
    losses: dict[str, list[float]] = {}
    for record in store.records():
        if record.spec["experiment"] == "comparison" and record.spec["optimizer"]["lr"] == 2.0**-7:
            losses.setdefault(record.spec["arm"], []).append(record.metric("val_loss"))
    rows = {row["arm"]: row for row in read_csv(report, "comparison")}
    assert set(rows) == set(losses)
    for arm, values in losses.items():
        assert float(rows[arm]["validation loss (nat/token)"]) == pytest.approx(sum(values) / 3, rel=1e-12)
        assert f"{sum(values) / 3:.4f}" in page.all
        assert rows[arm]["validation loss (nat/token): n"] == "3"
        assert len(rows[arm]["runs"].split()) == 3


def test_planted_drift_is_what_the_page_says(report, page):
    rows = {row["arm"]: row for row in read_csv(report, "lr_transfer")}
    drift = "drift (octaves per doubling)"
    assert float(rows["GDN (SP)"][drift]) == pytest.approx(-0.7, abs=0.06)
    assert float(rows["GDN+μP"][drift]) == pytest.approx(0, abs=0.06)
    assert (
        f"GDN (SP) needs lower learning rates with width: drift −{abs(float(rows['GDN (SP)'][drift])):.3f}" in page.all
    )


def test_every_run_is_listed_and_every_figure_and_table_is_written(store, report, page):
    ids = {f"run-{record.run_id}" for record in store.records()}
    assert ids <= set(page.ids)
    figures = {path.stem for path in (report / "figures").glob("*.png")}
    assert figures == {path.stem for path in (report / "figures").glob("*.svg")} and len(figures) >= 10
    tables = {path.stem for path in (report / "tables").glob("*.csv")}
    assert tables == {path.stem for path in (report / "tables").glob("*.tex")}
    assert {"table_a1", "table_a2", "comparison", "lr_transfer", "coordinate_slopes", "decode", "claims"} <= tables
    manifest = json.loads((report / "manifest.json").read_text(encoding="utf-8"))
    assert set(manifest["runs"]) == {record.run_id for record in store.records()}
    assert manifest["command"] == COMMAND


def test_claimed_figures_are_marked_as_the_sources(report):
    text = (report / "index.html").read_text(encoding="utf-8")
    for figure in ("18.2", "15.4", "1,200", "2,800"):
        assert re.search(rf'<td [^>]*class="source[^>]*><span>{re.escape(figure)}</span>', text)


def test_a_second_rendering_is_the_same_bytes(store, report, tmp_path):
    render(store, tmp_path / "again", command=COMMAND)
    first = {path.relative_to(report): path.read_bytes() for path in report.rglob("*") if path.is_file()}
    again = tmp_path / "again"
    assert first == {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()}


def test_no_path_of_this_machine_is_in_the_report(store, report):
    for path in report.rglob("*"):
        if path.suffix in (".html", ".md", ".json", ".csv", ".tex", ".svg"):
            text = path.read_text(encoding="utf-8")
            assert str(store.folder) not in text


def rendered(builder, tmp_path: Path) -> Page:
    path = render(builder.store, tmp_path / "out", command=COMMAND)
    return Page(path.read_text(encoding="utf-8"))


def test_a_standard_parametrization_that_does_not_drift_is_said(synthetic, tmp_path):
    builder = synthetic.Builder(tmp_path)
    builder.preset([])
    builder.sweep("transfer-gdn", "GDN (SP)", 0.0, first=True)
    page = rendered(builder, tmp_path)
    assert "In transfer-gdn, GDN (SP) did not drift" in page.all
    assert "In transfer-gdn, GDN+μP only shares the base width's runs with another arm." in page.all
    assert "comparison, coordinates and decode have no run in this set." in page.all


def test_what_qualifies_the_numbers_is_said(synthetic, tmp_path):
    builder = synthetic.Builder(tmp_path)
    builder.preset([])
    builder.sweep("transfer-gdn", "GDN (SP)", -0.7, first=True, centre=-10.3)
    builder.environment |= {"workers": 2, "dirty": True, "commit": "f" * 40}
    builder.digest = "9" * 64
    builder.comparison({"GDN+μP": 2.3, "Mamba-2": 2.4})
    page = rendered(builder, tmp_path)
    assert "come from 2 source digests" in page.all and "come from 2 commits" in page.all
    assert "had uncommitted changes" in page.all
    assert "their tokens/s are lower limits" in page.all
    assert "the best rate is at the edge of those that have run" in page.all
    assert "1 run diverged and counts as no loss: GDN (SP) in transfer-gdn." in page.all
    assert "Transformer+μP, GDN (SP) and RWKV-7 have no run in this set" in page.all


def test_a_note_of_many_runs_is_one_line():
    notes = {"b": ("resumed at step 3", "no peak"), "a": ("no peak",), "c": ("no peak",)}
    records = [SimpleNamespace(run_id=run_id, notes=found) for run_id, found in notes.items()]
    assert noted(SimpleNamespace(records=records)) == ["3 runs (the first: a): no peak", "b: resumed at step 3"]


def test_a_sweep_that_has_only_begun_claims_no_optimum(synthetic, tmp_path):
    """A quadratic through three falling losses has a minimum, which says nothing of where the curve turns."""
    builder = synthetic.Builder(tmp_path)
    builder.preset()
    for width in synthetic.WIDTHS:
        for rate, loss in ((-9.0, 4.65), (-8.0, 4.41), (-7.0, 4.36)):
            builder.train("transfer-gdn", "GDN (SP)", width, 0, rate, loss)
    page = rendered(builder, tmp_path)
    assert "no optimum is fitted" in page.all and "hollow triangles" in page.all
    assert "(n = 1) octaves" not in page.all and "GDN (SP): drift pending, 0 seeds with a slope" in page.all
    assert "GDN+μP has no run of transfer-gdn" not in page.all, "it shares the base width's"
    assert "GDN+μP has no run of coordinates in this set" in page.all
    assert "GDN+μP has no runs in this set" not in page.all


def test_labels_are_moved_apart_only_where_they_meet():
    assert apart([1.0, 2.0, 3.0], 0.5) == [1.0, 2.0, 3.0]
    assert apart([1.0, 1.1, 1.2, 5.0], 1.0) == pytest.approx([0.1, 1.1, 2.1, 5.0])
    assert apart([0.0, 0.9, 1.8], 1.0) == pytest.approx([-0.1, 0.9, 1.9])


def test_several_sets_make_one_page(synthetic, tmp_path):
    transfer, comparison = synthetic.Builder(tmp_path, "a"), synthetic.Builder(tmp_path, "b")
    transfer.preset()
    transfer.train("transfer-gdn", "GDN (SP)", 64, 0, -7.0, 2.5)
    comparison.preset([])
    run = comparison.train("comparison", "GDN+μP", 128, 0, -7.0, 2.3)
    path = render(transfer.store, tmp_path / "out", command="x", others=[comparison.store], name="both")
    page = Page(path.read_text(encoding="utf-8"))
    assert "The set both (a and b) holds 2 runs of 2 experiments" in page.all and run in page.all
    assert json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["sets"] == ["a", "b"]
    comparison.train("transfer-gdn", "GDN (SP)", 64, 0, -7.0, 2.4)
    with pytest.raises(GdnbenchError, match="a and b both have runs of transfer-gdn"):
        render(transfer.store, tmp_path / "out", command="x", others=[comparison.store], name="both")


@pytest.mark.parametrize("kind", ["nothing", "decode", "comparison without snapshot", "diverged only", "damaged"])
def test_partial_sets_render_and_say_what_is_missing(synthetic, tmp_path, kind):
    builder = synthetic.Builder(tmp_path)
    if kind != "comparison without snapshot":
        builder.preset()
    if kind == "decode":
        builder.decode("GDN+μP", 500.0, grows=False)
    elif kind == "comparison without snapshot":
        builder.comparison({"GDN+μP": 2.3})
    elif kind == "diverged only":
        builder.train("comparison", "GDN (SP)", 128, 0, -4.0, None)
    elif kind == "damaged":
        run = builder.train("comparison", "GDN (SP)", 128, 0, -4.0, 2.5)
        (builder.store.run_folder(run) / "run.json").write_text("{}", encoding="utf-8")
    page = rendered(builder, tmp_path)
    said = {
        "nothing": "holds no finished run yet",
        "decode": "comparison and coordinates have no run in this set.",
        "comparison without snapshot": "no snapshot of a preset",
        "diverged only": "all of its 1 run diverged",
        "damaged": "Damaged and not used",
    }
    assert said[kind] in page.all or kind == "diverged only"
    assert "not measured in this set" in page.all


def test_a_folder_that_is_no_report_is_left_alone(synthetic, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(GdnbenchError, match="is no report"):
        render(synthetic.Builder(tmp_path).store, out, command=COMMAND)
    assert (out / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_the_report_side_imports_neither_torch_nor_the_runs():
    code = "import sys, gdnbench.report.render; print(*sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = result.stdout.split()
    heavy = ("torch", "triton", "gdnbench.runs", "gdnbench.plan", "gdnbench.models", "gdnbench_kernels")
    assert [name for name in loaded if name in heavy or name.startswith(tuple(f"{h}." for h in heavy))] == []
