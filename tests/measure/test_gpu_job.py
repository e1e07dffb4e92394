"""The example of a job on a GPU box: what it runs exists, and a failed check fails it after it has posted its table."""

import inspect
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from gdnbench.cli.checks import bench_check

ROOT = Path(__file__).resolve().parents[2]
JOB = ROOT / "examples" / "ci" / "gpu-checks.yml"


@pytest.fixture(scope="module")
def steps():
    return yaml.safe_load(JOB.read_text(encoding="utf-8"))["jobs"]["checks"]["steps"]


def scripts(steps):
    return {step["name"]: step["run"] for step in steps if "run" in step}


def test_its_commands_exist(steps):
    targets = set(re.findall(r"make ([a-z-]+)", " ".join(scripts(steps).values())))
    assert targets == {"setup", "quality-check", "bench-check"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    (options,) = re.findall(r'ARGS="(.*?)"', scripts(steps)["Speed"])
    known = inspect.signature(bench_check).parameters
    for option in (word for word in shlex.split(options) if word.startswith("--")):
        assert option.removeprefix("--").replace("-", "_") in known


def test_a_failed_check_fails_the_job_after_its_table_was_posted(steps):
    names = [step.get("name") for step in steps]
    assert names.index("Comment") < names.index("Verdict") == len(names) - 1
    by_name = {step.get("name"): step for step in steps}
    for check in ("Quality", "Speed"):
        assert by_name[check]["continue-on-error"] is True
        assert f"steps.{by_name[check]['id']}.outcome != 'success'" in by_name["Verdict"]["if"]


def test_its_table_is_written_by_a_shell(steps, tmp_path):
    """What GitHub puts in place of its expressions is put there by hand."""
    script = re.sub(r"\$\{\{.*?\}\}", "failure", scripts(steps)["Table"])
    (tmp_path / "quality.txt").write_text("all as stored\n")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho A GPU, 1.0\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "BASELINE": "abc", "GITHUB_STEP_SUMMARY": str(tmp_path / "s")}
    subprocess.run(["bash", "-eo", "pipefail", "-c", script], cwd=tmp_path, env=environment, check=True)
    written = (tmp_path / "comment.md").read_text()
    assert written.startswith("<!-- gpu-checks -->")
    assert "all as stored" in written
    assert "on A GPU, 1.0, against abc" in written
    assert (tmp_path / "s").read_text() == written
