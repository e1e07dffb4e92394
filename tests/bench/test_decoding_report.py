"""The page of a set of speeds of generation, from planted records: table A2, floors, figures, verdicts, the README."""

import csv
import dataclasses
import json

import pytest

from gdnbench.claims import ClaimCard, catalogue
from gdnbench.measure.decoding.grid import Asked, cases
from gdnbench.presets import load_preset
from gdnbench.report.analysis import analyse
from gdnbench.report.figures import generation as figures
from gdnbench.report.generation import GB, grid, ratio
from gdnbench.report.readme import GENERATION, generation_block, update_readme
from gdnbench.report.render import render
from gdnbench.report.sections.article import _inference
from gdnbench.report.study import read_study
from gdnbench.report.verdicts.inference import cards, inference, where_it_comes_out
from tests.bench.planted_decoding import Planter, grid_set

COMMAND = "gdnbench report h200-decode"
ASKED = {"sizes": ["1.3b"], "batches": [1, 8], "contexts": [1024, 131072]}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return grid_set(tmp_path_factory.mktemp("results"), **ASKED)


@pytest.fixture(scope="module")
def report(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("reports") / "h200-decode"
    render(store, out, command=COMMAND)
    return out


def text(report):
    return (report / "report.md").read_text(encoding="utf-8").replace("\\", "")


def table(report, name):
    with (report / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def at(store, arch, impl="gdnbench", block=None, place=(1, 1024)):
    found = [
        r for r in store.records()
        if (r.spec["arch"], r.spec["impl"], r.spec["batch"], r.spec["context"]) == (arch, impl, *place)
        and block in (None, r.spec["block"])
    ]  # fmt: skip
    (record,) = found
    return record


def test_the_page_says_what_it_holds_and_how_fast_ours_is(store, report):
    page = text(report)
    assert f"The set h200-decode holds {len(store.records())} generation timings" in page
    assert "read 4,240 GB/s" in page
    record = at(store, "gdn")
    assert f"gdn (controlled), 1.3b, batch 1, context 1,024: {record.metric('tokens_per_s'):,.0f} tokens/s" in page
    assert "times fla_generate" in page
    assert "The check is red, and no time is shown, for rwkv7-controlled" in page


def test_every_row_of_table_a2_is_beside_the_stated_place(store, report):
    rows = {row["id"]: row for row in table(report, "table_a2")}
    assert set(rows) == {f"A2.{n}" for n in range(1, 6)}
    assert "models of 1.3b at batch 1, context 1,024" in text(report)
    for claim, arch, block in (("A2.1", "transformer", None), ("A2.2", "mamba2", "native"), ("A2.3", "gdn", None)):
        record, row = at(store, arch, block=block), rows[claim]
        assert float(row["tokens/s, measured"]) == pytest.approx(record.metric("tokens_per_s"))
        assert float(row["memory, measured (GB)"]) == pytest.approx(record.metric("decode_peak_gib") * GB)
        assert "batch 1, context 1,024, bfloat16" in row["measured under"]
    over = at(store, "gdn").metric("tokens_per_s") / at(store, "transformer").metric("tokens_per_s")
    assert float(rows["A2.3"]["over the Transformer's, measured"]) == pytest.approx(over, rel=1e-3)
    assert float(rows["A2.3"]["over the Transformer's, measured: low"]) < over
    assert rows["A2.3"]["over the Transformer's, article's"] == "2.08"
    assert rows["A2.1"]["over the Transformer's, measured"] == "", "it is its own reference"


def test_a_row_comes_out_where_both_of_its_numbers_do(tmp_path):
    """Planted so that the Transformer has the article's numbers in one place."""
    claim = catalogue().find("A2.1")
    planter = Planter(tmp_path)
    planted = planter.decoded
    planter.decoded = lambda case: dataclasses.replace(
        planted(case),
        stretches=((1e3 * case.batch / 1200 * (2 if case.context > 1024 else 1),) * 3,) * 3,
        decode_peak_gib=4.0 / GB,
    )
    for case in cases(Asked(device="cuda", archs=["transformer"], impls=["gdnbench"], **ASKED)):
        if case.batch == 1:
            planter.measured(case)
    found = grid(planter.store.records(), planter.store.rows)
    assert where_it_comes_out(claim, found) == "both at 1.3b, batch 1, context 1,024"
    verdict = inference(ClaimCard(claim="A2.1", test="inference", set="h200-decode"), read_study(planter.store))
    assert (verdict.verdict, verdict.measured) == ("reproduced", "1,200 tokens/s, 4.00 GB")
    assert inference(ClaimCard(claim="A2.2", test="inference"), read_study(planter.store)).verdict == "pending"


def test_ratios_are_judged_over_the_whole_grid(store):
    study = read_study(store)
    verdict = inference(ClaimCard(claim="A2.5", test="inference", set="h200-decode"), study)
    assert verdict.verdict in ("partly", "not reproduced")
    assert "to the Transformer" not in verdict.measured
    assert "at batch 1, context 1,024" in verdict.measured
    wide = ClaimCard(claim="A2.5", test="inference", bounds={"low": 0.5, "high": 100.0})
    assert inference(wide, study).verdict == "reproduced"
    none = ClaimCard(claim="A2.5", test="inference", bounds={"low": 200.0, "high": 300.0})
    assert inference(none, study).verdict == "not reproduced"
    assert len(cards("h200-decode")) == 5


def test_models_far_below_the_articles_test_nothing(tmp_path):
    study = read_study(grid_set(tmp_path, **ASKED | {"sizes": ["125m"]}))
    for card in cards("h200-decode"):
        verdict = inference(card, study)
        assert verdict.verdict == "not testable here"
        assert "of models of 1.00B parameters, the largest here have 1" in verdict.reason


def test_a_set_that_is_not_there_leaves_its_claims_pending(store):
    verdict = inference(ClaimCard(claim="A2.3", test="inference", set="nowhere"), read_study(store))
    assert (verdict.verdict, verdict.reason) == ("pending", "the set 'nowhere' holds no speed of generation")


def test_a_studys_article_shows_the_table_of_the_set_that_its_cards_name(store):
    study = read_study(store)
    alone = dataclasses.replace(study, name="other", generations=())
    assert "left out: this study measures no generation." in _inference(analyse(alone)).text
    named = dataclasses.replace(alone, presets=(load_preset("h200-125m"),))
    assert _inference(analyse(named)).name == "table_a2"


def test_the_table_has_every_place_and_what_does_not_fit_says_what_it_needs(store, report):
    rows = table(report, "generation_speed")
    assert len(rows) == len(store.records())
    unfit = [row for row in rows if "not run: it needs about" in row["tokens/s"]]
    assert {(row["model"], row["batch"], row["context"]) for row in unfit} >= {
        ("transformer (controlled)", "8", "131072")
    }
    assert all("and the device has 139.0; batch" in row["tokens/s"] for row in unfit)
    eager = next(row for row in rows if row["implementation"] == "fla_generate" and row["batch"] == "1")
    assert float(eager["ours over it"]) > 10
    assert eager["states or cache (GiB)"] == "", "a library does not say"
    ours = next(row for row in rows if row["implementation"] == "gdnbench" and row["batch"] == "8")
    assert ours["prompts fed"] == "prompt fed in 1 of 8 rows, its state copied to the others"


def test_prompts_have_their_floor_and_the_mixers_ratio(report):
    rows = table(report, "prompts")
    peer = next(row for row in rows if row["implementation"] == "fla_generate" and row["model"].startswith("gdn"))
    assert float(peer["its time over ours"]) == pytest.approx(0.2 / 0.09)
    assert float(peer["of matmul floor"]) < 1


def test_figures_draw_what_was_measured_and_floors_beyond_it(store):
    found = grid(store.records(), store.rows)
    plot = figures.memory(found, "1.3b")
    lines = {
        (axis.get_title(loc="left"), line.get_linestyle(), line.get_color()): line.get_xydata()
        for axis in plot.axes
        for line in axis.get_lines()
        if len(line.get_xydata()) and line.get_zorder() > 1
    }
    blue = figures.colour("transformer")
    assert [x for x, _ in lines["batch 8", "-", blue]] == [1024], "131,072 do not fit"
    assert [x for x, _ in lines["batch 8", "--", blue]] == [1024, 131072]
    flat = [y for _, y in lines["batch 8", "-", figures.colour("gdn")]]
    assert flat[0] == pytest.approx(flat[1])


def test_equal_records_give_equal_pages(store, report, tmp_path):
    render(store, tmp_path / "again", command=COMMAND)
    for path in sorted(report.rglob("*")):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(report)).read_bytes() == path.read_bytes(), path.name
    assert len(json.loads((report / "manifest.json").read_text())["runs"]) == len(store.records())


def test_the_readmes_block_says_what_the_records_say(store, tmp_path):
    block = generation_block(store.records())
    record = at(store, "gdn")
    row = next(line for line in block.splitlines() if line.startswith("| gdn (controlled) | gdnbench | 1 | 1,024 |"))
    assert f"| {record.metric('tokens_per_s'):,.0f} |" in row
    assert row.endswith(f"| {record.commit} |")
    assert "rwkv7 (controlled)" not in block, "red: no time"
    path = tmp_path / "README.md"
    path.write_text(f"{GENERATION.begin}\nold\n{GENERATION.end}\n", encoding="utf-8")
    update_readme(path, store.records())
    assert path.read_text(encoding="utf-8") == f"{GENERATION.begin}\n{block}\n{GENERATION.end}\n"


def test_a_ratio_is_of_tokens_per_second():
    class Fake:
        def __init__(self, *times):
            self.times = times

    assert ratio(Fake(1.0, 1.0), Fake(2.0, 2.0)).mean == pytest.approx(2.0)
