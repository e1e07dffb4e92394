"""What a study has left to run is stored beside its records, and the report lists it with its command."""

import csv

import yaml
from rich.console import Console

from gdnbench import launch
from gdnbench.report import render
from gdnbench.results import Store
from tests.runs.tiny import sweep, write_study


def left(path):
    with (path / "tables" / "left.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_report_lists_what_is_left_with_its_command(tmp_path, books):
    more = sweep(name="more", seeds=[0, 1, 2], log2_lrs=[-8, -7, -6], evaluation={"also": ["wikitext-103"]})
    preset = write_study(tmp_path / "p.yaml", sweep(), more, corpus=books, max_epochs=None)
    chosen = launch.choose(str(preset))
    summary = launch.run(chosen, tmp_path / "results", "mine", only=("sweep",), console=Console(quiet=True))
    assert (summary.left, summary.left_seconds) == (0, 0), "of the experiments that were asked for"
    store = Store(tmp_path / "results", "mine")
    page = render(store, tmp_path / "out", command="gdnbench report mine").read_text(encoding="utf-8")
    (row,) = left(tmp_path / "out")
    assert (row["experiment"], row["arm"], row["runs to do"]) == ("more", "T", "3")
    assert int(row["about so many more follow"]) > 0 and float(row["expected hours"]) > 0
    assert row["command"] == (
        "gdnbench reproduce tiny --only more --set mine --corpus text:<folder>/books --also wikitext-103:<folder>"
    )
    assert "This set is not complete: 3 runs and about" in page and "<p>Planned: " in page
    assert str(tmp_path) not in page

    # All that is asked for is there: nothing is left to list.
    content = yaml.safe_load(preset.read_text(encoding="utf-8"))
    preset.write_text(yaml.safe_dump({**content, "experiments": content["experiments"][:1]}), encoding="utf-8")
    launch.run(launch.choose(str(preset)), tmp_path / "results", "mine", console=Console(quiet=True))
    page = render(store, tmp_path / "out", command="gdnbench report mine").read_text(encoding="utf-8")
    assert (
        not any(text in page for text in ("is not complete", "Planned: "))
        and not (tmp_path / "out" / "tables" / "left.csv").exists()
    )
