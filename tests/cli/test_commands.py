"""What the commands print when all is well."""

import json
import subprocess
import sys

import pytest

from gdnbench.models import registry
from gdnbench.models.parametrization import table_names
from gdnbench.presets import preset_names
from gdnbench.version import __version__
from tests.runs.tiny import ROOT, gdnbench, sweep, write_study


def test_version(command):
    assert command("--version") == (0, f"gdnbench {__version__}\n", "")


def test_help_lists_every_command(command):
    ended = command("--help")
    assert ended.code == 0
    for name in (
        "presets",
        "plan",
        "reproduce",
        "report",
        "results",
        "coord-check",
        "rules",
        "evaluate",
        "overlap",
        "doctor",
    ):
        assert name in ended.out


def test_without_a_command_it_prints_its_help(command):
    ended = command()
    assert ended.code == 2
    assert "reproduce" in ended.out


def test_presets(command):
    ended = command("presets")
    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines()] == preset_names()


def test_rules_of_all_tables(command):
    ended = command("rules")
    for name in table_names():
        assert name in ended.out


def test_rules_of_one_table(command):
    ended = command("rules", "mup_gdn", "--width", "256", "--base-width", "64")
    assert ended.code == 0
    for parameter in ("embedding.weight", "blocks.0.mixer.q_proj", "blocks.0.mixer.A_log"):
        assert parameter in ended.out


def test_doctor_names_every_backend_and_what_is_missing(command):
    ended = command("doctor")
    assert ended.code == 0
    for part in (__version__, "torch", "gated_delta", "reference", "optional libraries", "lm-eval"):
        assert part in ended.out


def test_plan_as_json_is_the_full_configuration(command, tmp_path, books):
    write_study(tmp_path / "p.yaml", sweep(log2_lrs=[-8, -7]), corpus=books)
    runs = json.loads(command("plan", "p.yaml", "--json").out)
    assert [run["optimizer"]["lr"] for run in runs] == [2.0**-8, 2.0**-7]
    assert runs[0]["run_id"].endswith("s0-" + runs[0]["run_id"][-10:])
    assert command("plan", "p.yaml", "--json").out == command("plan", "p.yaml", "--json").out


def test_plan_prints_runs_with_time_and_memory(command, tmp_path):
    write_study(tmp_path / "p.yaml", sweep(log2_lrs=[-8, -7]))
    ended = command("plan", "p.yaml")
    assert len([line for line in ended.out.splitlines() if line.startswith("sweep-")]) == 2
    assert "min" in ended.out
    assert "GiB" in ended.out
    assert list(tmp_path.iterdir()) == [tmp_path / "p.yaml"], "planning writes nothing"


def test_reproduce_results_and_a_second_call(command, tmp_path, books):
    write_study(tmp_path / "p.yaml", sweep(log2_lrs=[-8, -7]), corpus=books)
    first = command("reproduce", "p.yaml", "--no-report", "--workers", "1")
    assert (first.code, first.err) == (0, "")
    assert "2 runs stored" in first.out
    again = command("reproduce", "p.yaml", "--no-report", "--workers", "1")
    assert "2 stored" in again.out
    rows = json.loads(command("results", "tiny").out)
    assert rows == json.loads(command("results", "tiny", "--json").out)
    assert len(rows) == 2
    assert len(command("results", "tiny", "--csv").out.splitlines()) == 3
    assert "stored" in command("plan", "p.yaml").out
    preset = tmp_path / "results" / "tiny" / "presets" / "tiny.yaml"
    assert "log2_lrs" in preset.read_text(), "what was run lies beside the results"


# A copy of a baseline under another name: what a user's variant looks like.
def variant(tmp_path):
    source = registry.source_file("transformer").read_text(encoding="utf-8")
    (tmp_path / "my_attention.py").write_text(source, encoding="utf-8")
    return tmp_path / "my_attention.py"


def test_a_mixer_of_ones_own_in_a_preset_of_ones_own(tmp_path, books):
    mixer = variant(tmp_path)
    write_study(tmp_path / "p.yaml", sweep(arms=[{"name": "Mine", "arch": "my_attention"}]), corpus=books)
    done = gdnbench("reproduce", "p.yaml", "--mixer", mixer, "--no-report", "--workers", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(gdnbench("results", "tiny", cwd=tmp_path).stdout)
    assert (row["arch"], row["outcome"]) == ("my_attention", "finished")


def test_a_coordinate_check_prints_slopes_and_a_verdict(command, books):
    options = ("--widths", "64,128", "--seeds", "2", "--after-steps", "1", "--workers", "1", "--corpus", books)
    ended = command("coord-check", "--arch", "transformer", "--table", "mup_derived", *options)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].split()[:3] == ["site", "steps", "slope"]
    assert "verdict:" in lines[-1]
    assert any("logits" in line for line in lines)


@pytest.mark.parametrize("command_line", [["presets"], ["rules"]])
def test_a_reader_that_leaves_early_is_no_error(command_line):
    """As in ``gdnbench rules | head -1``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gdnbench", *command_line],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    assert "Traceback" not in process.communicate()[1]


def test_overlap(tmp_path, command):
    book = " ".join(f"word{place}" for place in range(40))
    for name, train, test in (("a", f"Begin.\n\n{book}", "Something else."), ("b", "None.", book)):
        folder = tmp_path / name
        folder.mkdir()
        for split, text in (("train", train), ("valid", "Nothing."), ("test", test)):
            (folder / f"{split}.txt").write_text(text, encoding="utf-8")
    ended = command("overlap", "--corpus", f"text:{tmp_path / 'a'}", "--also", f"text:{tmp_path / 'b'}")
    assert ended.code == 0, ended.err
    rows = {line.split("  ")[0]: line.split()[-6:] for line in ended.out.splitlines()[1:]}
    assert rows["text:b test"] == ["28", "28", "100.00%", "1", "1", "100.0%"]
    assert rows["test"][:3] == ["0", "0", "0.00%"]
    wrong = command("overlap", "--corpus", "text:nowhere")
    assert wrong.code == 2 and "nowhere: no such folder" in wrong.err
