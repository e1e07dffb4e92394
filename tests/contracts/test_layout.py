"""Where things lie: the top level, the two folders that are no packages, the targets and the pinned versions."""

import re
import subprocess
import sys
import tomllib

import pytest


@pytest.mark.parametrize("path", ["kernels/__init__.py", "baselines/__init__.py", "tests/kernels", "tests/__init__.py"])
def test_does_not_exist(root, path):
    assert not (root / path).exists()


@pytest.mark.parametrize(
    "path",
    [
        *("pyproject.toml", "Makefile", "README.md", "LICENSE", "CITATION.cff", "CONTRIBUTING.md", ".ci/run"),
        *("constraints-cpu.txt", "constraints-gpu.txt", "gdnbench", "kernels", "baselines", "results", "reports"),
    ],
)
def test_exists(root, path):
    assert (root / path).exists()


def test_hugging_faces_kernels_is_not_ours(root):
    """`transformers` asks for a package of this name; a folder that answers would break it, and so lm-eval."""
    program = (
        "import importlib.util, gdnbench; spec = importlib.util.find_spec('kernels'); "
        "print(spec and spec.origin, spec and list(spec.submodule_search_locations or []))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    origin = done.stdout.split()[0]
    # A folder without __init__.py has no origin, which is how transformers tells it from the real package.
    assert origin == "None" or not origin.startswith(str(root))


def test_every_package_is_found_by_the_build(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    found = project["tool"]["setuptools"]["packages"]["find"]
    assert found["namespaces"] is False
    for folder in found["where"]:
        for package in (root / folder).glob("gdnbench*/**/"):
            if any(package.glob("*.py")):
                assert (package / "__init__.py").exists(), f"{package.relative_to(root)} would not be in the wheel"


def test_makefile_targets(root):
    text = (root / "Makefile").read_text(encoding="utf-8")
    for target in ("setup", "reproduce", "report", "test", "check", "help"):
        assert re.search(rf"^{target}:", text, re.MULTILINE), target


def test_make_help_lists_targets_and_presets(root):
    done = subprocess.run(["make", "help"], cwd=root, capture_output=True, text=True, check=True)
    for name in ("reproduce", "test", "report", *(path.stem for path in (root / "gdnbench/presets").glob("*.yaml"))):
        assert name in done.stdout
    assert "%" not in done.stdout.partition("presets")[2]


def pins(root, name):
    lines = (root / f"constraints-{name}.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_pinned_versions(root):
    cpu, gpu = pins(root, "cpu"), pins(root, "gpu")
    assert cpu["torch"] == "2.13.0"
    assert cpu["triton"] == "3.6.0"
    assert gpu["torch"].startswith("2.11")
    for found in (cpu, gpu):
        assert tuple(map(int, found["numpy"].split(".")[:2])) < (2, 4)


def test_every_core_dependency_is_pinned(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[<>=!~;\[ ]", entry)[0] for entry in project["dependencies"]}
    for name in ("cpu", "gpu"):
        assert names <= pins(root, name).keys()


def test_what_the_quick_path_needs_is_not_an_extra(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = " ".join(project["dependencies"])
    for name in ("lm-eval", "flash-linear-attention", "flash-attn", "mamba-ssm", "flash-qla", "triton"):
        assert name not in core


def test_continuous_integration_checks_tests_and_builds(root):
    text = (root / ".ci/run").read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    for step in ("make check", "make test", "make wheel"):
        assert step in text
    assert (root / ".ci/run").stat().st_mode & 0o100
