"""The wheel, installed elsewhere, is whole: it plans, and everything that is no Python file is in it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build", reason="the package that builds wheels is not installed")


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory) -> Path:
    """Build from a copy, so that the checkout stays clean; with this environment's setuptools, so that it is fast."""
    copy, out = tmp_path_factory.mktemp("source") / "repository", tmp_path_factory.mktemp("dist")
    copy.mkdir()
    for name in ("gdnbench", "kernels", "baselines"):
        shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, copy)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Unpack the wheel, which is all that installing a pure one does; dependencies come from this environment.

    It is the only path to the packages: the working folder is elsewhere and holds no checkout.
    """
    site, work = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("work")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)

    def python(*arguments: str) -> str:
        path = os.pathsep.join([str(site), sysconfig.get_path("purelib")])
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=work,
            env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return site, python


def test_it_holds_every_source_file(root, wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    for folder in ("gdnbench", "kernels/gdnbench_kernels", "baselines/gdnbench_baselines"):
        for path in (root / folder).rglob("*"):
            if path.suffix in (".py", ".yaml", ".html", ".css", ".typed") or path.name == "py.typed":
                name = path.relative_to((root / folder).parent).as_posix()
                assert name in inside, f"{name} is missing in the wheel"


def test_it_holds_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "gdnbench",
        "gdnbench_kernels",
        "gdnbench_baselines",
    }


def test_it_plans_quick(installed):
    site, python = installed
    assert python("-c", "import gdnbench; print(gdnbench.__file__)").startswith(str(site))
    assert "comparison-" in python("-m", "gdnbench", "plan", "quick")


def test_it_can_document_its_tables_and_has_its_templates(installed):
    _, python = installed
    assert "mup_gdn" in python("-m", "gdnbench", "rules")
    program = (
        "from importlib.resources import files; "
        "print(len((files('gdnbench.report') / 'templates' / 'page.html').read_text()), "
        "len((files('gdnbench.claims') / 'claims.yaml').read_text()))"
    )
    assert all(int(size) > 100 for size in python("-c", program).split())


def test_it_has_its_command(installed):
    site, _ = installed
    (points,) = site.glob("*.dist-info/entry_points.txt")
    assert "gdnbench = gdnbench.cli:main" in points.read_text()
