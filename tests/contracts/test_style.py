"""What a reader meets: small files, small functions, docstrings, and nothing of anybody's machine."""

import ast
import statistics
import subprocess

import pytest

PACKAGES = ("gdnbench", "kernels", "baselines")
# In parts, so that this file is not its own finding.
HOSTS = ("pypi" + ".org", "files.python" + "hosted", "index" + "-url")
PLACES = ("/" + "work/", "/" + "root/", "/home" + "/")
TEXT = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".cff", ".html", ".css", ".json", ".jsonl", ".csv", ".tex", ""}


def trees(root):
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def functions(root):
    for path, tree in trees(root):
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield path, node


def ninth_decile(values):
    return statistics.quantiles(values, n=10)[-1]


def test_files_are_small(root):
    sizes = [len(path.read_text(encoding="utf-8").splitlines()) for path, _ in trees(root)]
    assert ninth_decile(sizes) <= 400
    assert statistics.median(sizes) <= 150


def test_functions_are_small(root):
    sizes = [node.end_lineno - node.lineno + 1 for path, node in functions(root) if "impl" not in path.parts]
    assert ninth_decile(sizes) <= 45
    assert statistics.median(sizes) <= 15


def test_nine_public_functions_in_ten_have_a_docstring_and_types(root):
    public = [node for _, node in functions(root) if not node.name.startswith("_")]
    documented = [node for node in public if ast.get_docstring(node)]
    typed = [node for node in public if node.returns is not None]
    assert len(documented) >= 0.9 * len(public)
    assert len(typed) >= 0.9 * len(public)


def test_every_file_begins_with_what_it_is(root):
    for path, tree in trees(root):
        assert ast.get_docstring(tree), path


@pytest.mark.parametrize("name", ["utils", "helpers", "misc", "common"])
def test_no_file_is_called_after_nothing(root, name):
    for package in PACKAGES:
        assert not list((root / package).rglob(f"{name}.py"))


def committed(root):
    """Paths of the repository's files; without git, everything that is no build output."""
    done = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True)
    if done.returncode:
        return [path for path in root.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [root / line for line in done.stdout.splitlines()]


def test_no_file_names_a_machines_path_or_a_package_index(root):
    found = []
    for path in committed(root):
        if path.suffix in TEXT and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            # Tests may spell a place in order to look for it.
            forbidden = HOSTS if "tests" in path.relative_to(root).parts else HOSTS + PLACES
            found += [f"{path.relative_to(root)}: {entry}" for entry in forbidden if entry in text]
    assert not found
