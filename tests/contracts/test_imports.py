"""The arrows between the packages, by what each brings into a fresh process and by what its files name."""

import ast
import os
import subprocess
import sys

import pytest

# What is imported -> what must not come with it.
ARROWS = {
    "gdnbench_kernels": ["gdnbench", "gdnbench_baselines", "triton", "fla"],
    "gdnbench_kernels.gated_delta": ["gdnbench", "triton", "fla"],
    "gdnbench.models": ["gdnbench_baselines", "gdnbench.plan", "gdnbench.runs", "gdnbench.results", "triton"],
    "gdnbench.presets": ["torch", "triton", "gdnbench.plan", "gdnbench.runs"],
    "gdnbench.plan.estimate": ["gdnbench.runs", "gdnbench.report", "triton", "transformers", "matplotlib"],
    "gdnbench.results": ["torch", "triton", "gdnbench.runs", "gdnbench.report", "gdnbench.models"],
    "gdnbench.report": ["torch", "triton", "gdnbench.runs", "gdnbench.models", "transformers"],
    "gdnbench.report.render": ["torch", "triton", "gdnbench.runs", "transformers"],
    "gdnbench.runs.reproduce": ["gdnbench.report", "gdnbench.cli", "triton", "transformers", "matplotlib"],
    "gdnbench.data": ["gdnbench.models", "gdnbench.plan", "gdnbench.runs", "gdnbench.report"],
    "gdnbench.inference": ["gdnbench.measure", "gdnbench.plan", "gdnbench.runs", "gdnbench.report", "triton"],
    "gdnbench.measure.coordinates": ["gdnbench.plan", "gdnbench.runs", "gdnbench.report"],
    "gdnbench.cli": ["torch", "pandas", "matplotlib"],
}


def loaded_by(root, statement):
    """Return the names of all modules in a fresh process after ``statement``."""
    path = os.pathsep.join(str(root / folder) for folder in (".", "kernels", "baselines"))
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys; print('\\n'.join(sys.modules))"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ARROWS)
def test_import_brings_no_more_than_the_arrows_allow(root, module):
    loaded = loaded_by(root, f"import {module}")
    assert not loaded & set(ARROWS[module])


def test_planning_quick_needs_neither_triton_nor_transformers(root):
    loaded = loaded_by(
        root, "from gdnbench.presets import load_preset; from gdnbench.plan.expand import expand; "
        "from gdnbench.plan.budgets import counts; [counts(s.model, 64) for s in expand(load_preset('quick'), {}).runs]"
    )  # fmt: skip
    assert "gdnbench_baselines.gdn" in loaded, "or nothing was planned"
    assert not loaded & {"triton", "transformers", "fla", "lm_eval"}


def python_files(root, *folders):
    for folder in folders:
        yield from sorted((root / folder).rglob("*.py"))


def imports(path):
    """Yield the absolute name of every module that a file names in an import, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def naming(root, folder, *forbidden):
    """Return the files of a folder that import one of the names or anything inside it."""
    return [
        f"{path.relative_to(root)}: {name}"
        for path in python_files(root, folder)
        for name in imports(path)
        if any(name == entry or name.startswith(f"{entry}.") for entry in forbidden)
    ]


# Also imports inside functions, which a fresh process does not show.
NAMED = {
    "kernels": ["gdnbench", "gdnbench_baselines"],
    "gdnbench/models": [
        f"gdnbench.{name}" for name in ("data", "inference", "plan", "runs", "results", "report", "measure")
    ],
    "gdnbench/inference": [f"gdnbench.{name}" for name in ("plan", "runs", "results", "report", "measure")],
    "gdnbench/plan": ["gdnbench.runs", "gdnbench.report", "gdnbench_baselines"],
    "gdnbench/results": ["gdnbench.runs", "gdnbench.report", "gdnbench.plan"],
    "gdnbench/report": ["torch", "triton", "gdnbench.runs", "gdnbench.data", "gdnbench.measure"],
    "gdnbench/runs": ["gdnbench.report"],
    "gdnbench": ["gdnbench_baselines"],
    "baselines": ["gdnbench.plan", "gdnbench.runs", "gdnbench.results", "gdnbench.report", "gdnbench.data"],
}


@pytest.mark.parametrize("folder", NAMED)
def test_no_file_names_what_lies_beyond_its_arrows(root, folder):
    assert not naming(root, folder, *NAMED[folder])


def test_gdnbench_names_no_baseline(root):
    """The registry finds them; a name in the code would make a user's own mixer second class."""
    names = {path.stem for path in (root / "baselines/gdnbench_baselines").glob("*.py")} - {"__init__"}
    found = []
    for path in python_files(root, "gdnbench"):
        # The report draws arms of a published table by name, which are records, not code.
        if "report" in path.parts or "claims" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Compare, ast.Dict, ast.Subscript)):
                strings = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
                if strings & names:
                    found.append(f"{path.relative_to(root)}:{node.lineno}: {strings & names}")
    assert not found


def test_peers_are_imported_in_their_own_backend_only(root):
    peers = {"fla": "fla.py", "flash_qla": "flash_qla.py", "flashinfer": "flashinfer.py", "mamba_ssm": "mamba_ssm.py"}
    for path in python_files(root, "gdnbench", "kernels", "baselines"):
        for name in imports(path):
            peer = name.partition(".")[0]
            assert peer not in peers or path.name == peers[peer], f"{path}: {name}"


def test_a_clone_that_was_never_installed_finds_its_siblings(root, tmp_path):
    program = "import gdnbench.models, gdnbench_kernels; from gdnbench.models import registry; print(registry.names())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'gdn'" in done.stdout
