"""What this Triton and its assembler are known to get wrong on Hopper is in none of the plain Triton kernels.

A warpgroup product whose left operand is computed, so that it lies in registers, came out wrong there (flash-linear-
attention issues 640 and 984; triton issue 9433). Gluon kernels place their operands and waits themselves; those are
tested on the GPU.
"""

import json
import re
from importlib import resources as files

import pytest

pytest.importorskip("triton", reason="the compiler is not installed")

import gdnbench_kernels
from gdnbench_kernels import compiled, resources
from gdnbench_kernels.gated_delta.gpu import choice
from gdnbench_kernels.launching import recorded

HOPPER = 90
# Splits float32 operands into parts of tf32 in registers, once for each piece of a sequence: no loop for a product to
# race with. `test_pieces_of_a_long_sequence` holds it to float64 on the GPU.
SPLITS_ITS_OPERANDS = {"chain_kernel"}


def test_no_plain_kernel_of_the_stored_table_multiplies_from_registers():
    """`make bench-check` holds the table to what the kernels compile to."""
    table = json.loads(files.files(gdnbench_kernels).joinpath("resources.json").read_text(encoding="utf-8"))["kernels"]
    in_gluon = {f"{name}_kernel" for name in choice.GLUON}
    found = {}
    for row in table:
        kernel = row["kernel"].split(" #")[0]
        if row["arch"] == HOPPER and (kernel not in in_gluon or "plain" in row["case"]):
            found.setdefault(kernel, []).append(row)
    assert in_gluon | {"gradients_kernel", "finish_kernel", "chain_kernel"} <= found.keys()
    rows = [row for kernel in found.keys() - SPLITS_ITS_OPERANDS for row in found[kernel]]
    assert [row for row in rows if row.get("wgmma_rs", 0) > 0 or row.get("serialized", False)] == []
    assert any(row.get("wgmma_ss", 0) > 0 for row in rows), "or there is nothing to get wrong"


def test_the_size_that_went_wrong_compiles_to_safe_products(monkeypatch):
    """K = V = 64, which the table has not: tiles of 64 and four warps."""
    monkeypatch.setitem(compiled.SHAPES, HOPPER, {"K 64, V 64": compiled.Shape(key_dim=64, value_dim=64, state=True)})
    with choice.plain():
        launches = [launch for case, launch in compiled.launches(HOPPER) if case == "K 64, V 64"]
    distinct = {resources.specialization(launch, HOPPER): launch for launch in launches}
    assert len(distinct) >= 5
    found = {kernel: resources.measure(launch, HOPPER) for kernel, launch in distinct.items()}
    assert [kernel for kernel, taken in found.items() if taken.wgmma_rs or taken.serialized] == []
    assert sum(taken.wgmma_ss > 0 for taken in found.values()) >= 3, "scan, reverse and gradients"


def test_a_slot_of_weights_is_asked_for_again_before_the_next_is_multiplied():
    """Else memory idles while a program of `fused_linear` computes; ptxas moves loads where nothing holds them."""
    (launch,) = [launch for case, launch in compiled.launches(HOPPER) if case == "fused_linear, swiglu"]
    with resources._architecture(HOPPER):
        code = resources._disassemble(resources._warm_up(launch).asm["cubin"])
    steps = re.findall(r"LDG\.E\.EF|FFMA", code.partition("ACQBULK")[2])
    loads = [i for i, step in enumerate(steps) if step != "FFMA"]
    slots = launch.arguments["DEPTH"]
    each = len(loads) // slots
    assert slots > 1
    assert each >= 2
    between = [loads[i] - loads[i - 1] for i in range(each, len(loads), each)]
    assert min(between) > len(steps) // (2 * slots), "products between the loads of two slots"


@pytest.mark.parametrize("case", [{"rows": 1}, {"rows": 2, "activation": "swiglu"}], ids=["alone", "with its gate"])
def test_a_product_of_one_row_of_y_compiles(case):
    """Triton makes a constant of an integer 1."""
    with recorded(HOPPER) as launches:
        compiled._fused_linear(64, **case, batch=8, norm=False)
    (launch,) = launches
    assert launch.kernel.__name__ == "fused_linear_hopper_kernel"
    assert resources.measure(launch, HOPPER).wgmma_ss > 0


@pytest.mark.parametrize("arch", [80, 86])
def test_a_product_of_many_rows_fits_the_shared_memory(arch):
    """The most that is asked for: 32 inputs on an A100, 128 on a small GPU."""
    with recorded(arch) as launches:
        compiled._fused_linear(1152, 768, batch=32, norm=False)
        compiled._fused_linear(768, 2308, batch=128, mix_rows=(768, 768, 772))
    products = [launch for launch in launches if launch.kernel.__name__ == "fused_linear_dot_kernel"]
    assert [resources.measure(launch, arch).spill_bytes for launch in products] == [0, 0]
