"""What kernels compile to against the stored table: every planted fault is found, and nothing else."""

import ast
import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the compiler is not installed")

from gdnbench_kernels import compiled, resources
from gdnbench_kernels.gated_delta.gpu import choice
from gdnbench_kernels.resources import Resources

from gdnbench.errors import GdnbenchError
from gdnbench.measure.regression import ahead_of_time
from gdnbench.measure.regression.compiling import Row, compile_all
from gdnbench.measure.regression.table import Table, changes
from tests.measure import planted_kernels

HOPPER = Resources(registers=136, spill_bytes=0, shared_bytes=65536, threads=128, wgmma_ss=16)
SPILLING = replace(HOPPER, spill_bytes=8, registers=255)


def check(path, listing, *, update=False):
    lines, good = ahead_of_time.check(path=path, listing=listing, architectures=(90,), update=update)
    return "\n".join(lines), good


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A table of the sound kernels."""
    path = tmp_path_factory.mktemp("table") / "resources.json"
    said, good = check(path, planted_kernels.sound, update=True)
    assert good
    assert f"stored in {path}" in said
    return path


def test_the_same_kernels_pass_and_equal_ones_are_compiled_once(stored):
    said, good = check(stored, planted_kernels.sound)
    assert good
    assert said.startswith("1 kernels, serving 2 rows of the table")
    assert "worse" not in said
    assert "improved" not in said


PLANTED = {
    "spill": (planted_kernels.spilling, ["spill bytes", "registers"]),
    "register operand": (
        planted_kernels.with_register_operands,
        ["matrix instructions", "wgmma_rs", "another", "no longer launched"],
    ),
    "refused by the compiler": (planted_kernels.refused, ["does not compile", "power of 2", "compiles", "yes", "no"]),
}


@pytest.mark.parametrize(("listing", "words"), PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_found(stored, listing, words):
    said, good = check(stored, listing)
    assert not good
    for word in ("worse:", "sm_90", "product", *words):
        assert word in said, said
    assert "improved" not in said, "what the fault brought with it is no improvement"


def test_a_crash_of_the_compiler_is_one_finding_and_spares_the_others(stored):
    said, good = check(stored, planted_kernels.crashing)
    assert not good
    assert "crash (small) does not compile: the compiler crashed: broken beyond words" in said
    assert said.count("not in the table") == 1, "the sound kernels have their rows as before"


def test_what_got_better_passes_and_says_how_to_store_it(stored, tmp_path):
    table = Table.load(stored)
    worse = {
        row: replace(found, registers=found.registers + 40, spill_bytes=64) for row, found in table.kernels.items()
    }
    replace(table, kernels=worse).save(tmp_path / "table.json")
    said, good = check(tmp_path / "table.json", planted_kernels.sound)
    assert good
    assert "improved: run `gdnbench bench check --update`" in said
    assert "small (and 1 more)" in said, "rows of one kernel are said once"


def test_with_another_compiler_only_spills_are_compared(stored, tmp_path):
    table = Table.load(stored)
    other = {row: replace(found, registers=10, shared_bytes=1) for row, found in table.kernels.items()}
    replace(table, kernels=other, triton="0.0").save(tmp_path / "table.json")
    said, good = check(tmp_path / "table.json", planted_kernels.sound)
    assert good
    assert "sm_90: compiled with triton 3" in said
    assert "only compilation and spills are compared" in said
    assert [change.what for change in changes(HOPPER, SPILLING, same_compiler=False)] == ["spill bytes"]


def test_the_matrix_instructions_of_each_architecture_are_counted():
    kernels = compile_all(planted_kernels.one, (80, 90, 100))
    assert [kernel.rows for kernel in kernels] == [[Row(arch, "small", "product")] for arch in (80, 90, 100)]
    for kernel, kind in zip(kernels, ("mma", "wgmma_ss", "tcgen05")):
        counts = {name: getattr(kernel.resources, name) for name in ("mma", "wgmma_ss", "wgmma_rs", "tcgen05")}
        assert {name for name, count in counts.items() if count} == {kind}
        assert kernel.resources.threads == 128


WORSE = {
    "spill": {"spill_bytes": 8},
    "registers": {"registers": 145},
    "shared memory": {"shared_bytes": 69000},
    "fewer products": {"wgmma_ss": 12},
    "another unit": {"wgmma_ss": 0, "mma": 128},
    "register operands": {"wgmma_ss": 12, "wgmma_rs": 4},
    "serialized": {"serialized": True},
}


@pytest.mark.parametrize("moved", WORSE.values(), ids=WORSE)
def test_worse_and_its_reverse(moved):
    there, back = ((HOPPER, replace(HOPPER, **moved)), (replace(HOPPER, **moved), HOPPER))
    assert [change.worse for change in changes(*there)] == [True]
    assert [change.worse for change in changes(*back)] == [False]


def test_a_block_fewer_on_the_sm_counts_however_few_registers_it_costs():
    (change,) = changes(replace(HOPPER, registers=126), replace(HOPPER, registers=130))
    assert change.worse
    assert (change.stored, change.now) == ("126 (4 blocks an SM)", "130 (3 blocks an SM)")


@pytest.mark.parametrize("moved", [{}, {"registers": 144}, {"shared_bytes": 66000}])
def test_no_news(moved):
    assert changes(HOPPER, replace(HOPPER, **moved)) == []


def test_a_kernel_that_compiles_again_is_better():
    (change,) = changes(None, HOPPER)
    assert not change.worse


def test_blocks_on_an_sm_by_registers():
    assert [replace(HOPPER, registers=count).blocks_by_registers for count in (120, 121, 128, 129, 255)] == [
        4,
        4,
        4,
        3,
        2,
    ]


def test_a_table_is_read_as_it_was_written(tmp_path):
    rows = {Row(90, "a, b", "scan #2"): HOPPER, Row(80, "a", "scan"): None}
    table = Table(triton="3.6.0", ptxas={"80": "12.8", "90": "12.9"}, kernels=rows)
    table.save(tmp_path / "table.json")
    assert Table.load(tmp_path / "table.json") == table
    assert len(json.loads((tmp_path / "table.json").read_text())["kernels"]) == 2


@pytest.mark.parametrize("text", [None, "", "{}", '{"triton": "3", "ptxas": {}, "kernels": [{"arch": 90}]}'])
def test_no_table(tmp_path, text):
    if text is not None:
        (tmp_path / "table.json").write_text(text)
    with pytest.raises(GdnbenchError, match="bench check --update"):
        Table.load(tmp_path / "table.json")


def launched_in(package):
    """Yield module and name of each kernel that the first argument of a `launch(...)` in a package's files names."""
    for path in package.rglob("*.py"):
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            calls_it = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "launch"
            for name in ast.walk(node.args[0]) if calls_it else ():
                if isinstance(name, ast.Name) and name.id.endswith("_kernel"):
                    yield module, name.id


def test_every_kernel_that_is_launched_somewhere_is_listed():
    # A version for Hopper that nothing chooses is not shipped.
    found = set(launched_in(Path(compiled.__file__).parent))
    launched = {
        (getattr(importlib.import_module(module), kernel).module, kernel)  # where it is from, if it was imported
        for module, kernel in found
        if ".hopper." not in module or module.split(".")[-1] in choice.GLUON
    }
    launches = [launch for arch in compiled.ARCHITECTURES for _, launch in compiled.launches(arch)]
    assert launched == {(launch.kernel.module, launch.kernel.__name__) for launch in launches}


def test_the_stored_table_has_the_rows_of_the_listing():
    stored = Table.load(ahead_of_time.TABLE)
    assert stored.triton == resources.TRITON_VERSION
    cases = {(arch, case) for arch in compiled.ARCHITECTURES for case, _ in compiled.launches(arch)}
    assert {(row.arch, row.case) for row in stored.kernels} == cases
