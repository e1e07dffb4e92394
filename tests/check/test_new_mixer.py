"""What `new-mixer` writes passes every check and its own test; names that cannot be are refused."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gdnbench import cli
from gdnbench.check import CHECKS, check, training
from gdnbench.check.new import new_mixer
from gdnbench.errors import GdnbenchError

EVERYTHING = [name for name in CHECKS if name != "stability"]


def module_of(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_passes_every_check_and_its_own_test(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "STEPS", 44)
    mixer, test = new_mixer("my_fading_mixer", tmp_path)
    assert "class MyFadingMixer(Mixer)" in mixer.read_text()
    report = check(mixer)
    assert not report.failed, "\n".join(report.lines())
    assert {one.name for one in report.checked} == {"import", "build", *CHECKS}
    module_of(test).test_it_computes_its_equation()


def test_the_commands(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    written = CliRunner().invoke(cli.app, ["new-mixer", "mine", "--folder", str(tmp_path)])
    assert written.exit_code == 0
    assert f"gdnbench check {tmp_path / 'mine.py'}" in written.output
    path = tmp_path / "mine.py"
    path.write_text(path.read_text().replace(".triu(1)", ".triu(2)"))
    called = [sys.executable, "-m", "gdnbench", "check", "mine.py", "--only", "causality,rows", "--json"]
    found = subprocess.run(called, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.returncode == 1, found.stderr
    report = json.loads(found.stdout)
    assert report["failed"] is True
    outcomes = {one["name"]: one["outcome"] for one in report["checks"]}
    assert outcomes == {"import": "ok", "build": "ok", "causality": "FAILED", "rows": "ok"}
    (finding,) = report["checks"][2]["findings"]
    assert finding["place"] == "position 0 of 2 tokens"
    assert finding["remedy"]


@pytest.mark.parametrize("name", ["gdn", "hybrid", "My", "a-b", "class", "torch", ""])
def test_names_that_cannot_be(name, tmp_path):
    with pytest.raises(GdnbenchError, match="new-mixer"):
        new_mixer(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_stays(tmp_path):
    (tmp_path / "test_mine.py").write_text("precious")
    with pytest.raises(GdnbenchError, match="stays as it is"):
        new_mixer("mine", tmp_path)
    assert (tmp_path / "test_mine.py").read_text() == "precious"
    assert not (tmp_path / "mine.py").exists()


def test_a_check_that_is_not_there(planted):
    with pytest.raises(GdnbenchError, match="did you mean causality"):
        check(planted("mine"), only=["casuality"])
    with pytest.raises(GdnbenchError, match="no such file"):
        check(planted("other").with_name("none.py"))


def test_the_mixer_of_the_readme(tmp_path):
    """Written by the README alone."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class MyMixer" in block]
    path = tmp_path / "my_mixer.py"
    path.write_text(code)
    report = check(path, only=EVERYTHING)
    assert not report.failed, "\n".join(report.lines())


def test_the_readme_names_every_check():
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = text.partition("### What is checked")[2].partition("### What is compared")[0]
    assert {name for name in CHECKS if f"`{name}`" not in table} == set()
