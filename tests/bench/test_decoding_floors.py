"""The floor of generation counted by hand at small sizes, the sizes of the grid, and what is planned before it runs."""

import dataclasses

import pytest

from gdnbench.measure.decoding import expected, floors
from gdnbench.measure.decoding.case import DecodeCase
from gdnbench.measure.decoding.fitting import RESERVE, why_too_large
from gdnbench.measure.decoding.grid import Asked, cases
from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.models.config import ModelConfig
from gdnbench.models.decoder import on_meta

H200 = Calibration(copy_gb_s=4240.0, matmul_tflop_s=710.0)
D, WORDS, MLP = 16, 32, 48


def case(arch="gdn", *, batch=3, context=10, dtype="bfloat16", state_dtype="float32", **fields):
    common = {"width": D, "base_width": D, "depth": 1, "vocab_size": WORDS, "mlp_width": MLP}
    return DecodeCase(
        impl="gdnbench", size="tiny", model=ModelConfig(arch=arch, **(common | fields)), batch=batch, context=context,
        dtype=dtype, state_dtype=state_dtype, device="cpu", tokens=4, repeats=2,
    )  # fmt: skip


def test_a_step_of_gdn_by_hand():
    """Two heads, K 2, V 4: matrices in 2 bytes, the memory in 4 and read and written, vectors in 4."""
    gdn = case(options={"gdn": {"heads": 2}})
    matrices = D * (4 + 4 + 8 + 8 + 8 + 2 + 2) + 3 * D * MLP + D * WORDS
    vectors = 4 * (4 + 4 + 8) + (2 + 2 + 4) + 3 * D
    weights = 2 * matrices + 4 * vectors
    row = 2 * 2 * 4 * 4 + 2 * 3 * (4 + 4 + 8)
    assert floors.row_bytes(gdn, 10) == row
    assert floors.step_bytes(gdn, 10) == weights + 3 * 2 * row
    assert floors.least_bytes(gdn) == weights + 3 * row
    assert floors.step_bytes(gdn, 10_000) == floors.step_bytes(gdn, 10), "whatever the context"
    half = dataclasses.replace(gdn, state_dtype="bfloat16")
    assert floors.step_bytes(gdn, 10) - floors.step_bytes(half, 10) == 3 * 2 * (2 * 2 * 4 * 2)
    assert floors.step_flops(gdn, 10) == 3 * (2 * matrices + 6 * 2 * 2 * 4 + 2 * 4 * (4 + 4 + 8))


def test_a_step_of_attention_reads_its_cache_and_writes_one_token_of_it():
    attention = case("transformer", options={"transformer": {"heads": 2, "kv_heads": 1}})
    token = 2 * 2 * 8  # a key and a value of 8 in 2 bytes
    matrices = D * (16 + 8 + 8 + 16) + 3 * D * MLP + D * WORDS
    assert floors.row_bytes(attention, 10) == 10 * token
    assert floors.step_bytes(attention, 10) == 2 * matrices + 4 * 3 * D + 3 * (10 + 1) * token
    assert floors.step_flops(attention, 10) == 3 * (2 * matrices + 4 * 16 * 11), "11 keys, the token's own among them"


def test_a_table_that_is_no_head_is_read_by_row():
    tied, untied = (case(options={"gdn": {"heads": 2}}, tied=tied) for tied in (True, False))
    assert floors.step_bytes(untied, 10) - floors.step_bytes(tied, 10) == 3 * D * 2


def test_a_prompt_by_hand():
    """Every token goes through the layers, the last one through the head."""
    gdn = case(options={"gdn": {"heads": 2}})
    layers = 2 * (D * 36 + 3 * D * MLP) + 6 * 2 * 2 * 4 + 2 * 4 * 16
    assert floors.prefill_flops(gdn, 2) == 2 * (10 * layers + 2 * D * WORDS)
    unit = Calibration(copy_gb_s=1.0, matmul_tflop_s=1e-12)
    assert floors.prefill_floor_s(gdn, 2, unit) == floors.prefill_flops(gdn, 2)


def test_the_floor_is_the_slower_of_bytes_and_operations():
    gdn = case(options={"gdn": {"heads": 2}})
    slow = Calibration(copy_gb_s=1.0, matmul_tflop_s=1e-12)
    assert floors.step_floor_s(gdn, 10, 1e-9, dataclasses.replace(slow, matmul_tflop_s=1e9)) == floors.step_bytes(
        gdn, 10
    )
    assert floors.step_floor_s(gdn, 10, 1e9, slow) == floors.step_flops(gdn, 10)


@pytest.mark.parametrize("size", ["1.3b", "125m"])
def test_models_of_a_size_agree_in_parameters(size):
    found = [c.model for c in cases(Asked(device="cuda", sizes=[size], impls=["gdnbench"], batches=[1], contexts=[8]))]
    counts = [on_meta(model).parameter_count(embedding=False) for model in found]
    assert len(counts) == 7
    assert max(counts) / min(counts) - 1 < 0.0125
    assert all(abs(count / counts[0] - 1) < 0.01 for count in counts), "all within 1% of the Transformer's"


def test_gdn_at_1_3b_has_the_floor_that_the_engine_was_designed_to():
    """2.6 GB of weights and 0.13 GB of states in float32, at 4,240 GB/s: about 1,525 tokens/s."""
    (gdn,) = cases(
        Asked(device="cuda", sizes=["1.3b"], archs=["gdn"], impls=["gdnbench"], batches=[1], contexts=[1024])
    )
    assert floors.step_bytes(gdn, gdn.length) == pytest.approx(2.61e9 + 0.135e9, rel=0.01)
    assert 1 / floors.step_floor_s(gdn, gdn.length, 4240.0, H200) == pytest.approx(1540, rel=0.02)


def test_the_whole_grid_is_planned_in_minutes_and_the_largest_caches_do_not_fit():
    grid = cases(Asked(device="cuda", sizes=["1.3b"], archs=["gdn", "transformer"]))
    unfit = {(c.model.arch, c.batch, c.context) for c in grid if why_too_large(c, 139 * 2**30)}
    assert "gdn" not in {arch for arch, _, _ in unfit}
    assert ("transformer", 8, 131072) in unfit
    assert ("transformer", 64, 8192) not in unfit
    seconds = sum(expected.seconds(c, 4240.0, H200) for c in grid if not why_too_large(c, 139 * 2**30))
    assert seconds < 10 * 60


def test_what_is_too_large_says_what_would_fit():
    large = case("transformer", batch=100, context=1000, options={"transformer": {"heads": 2}})
    reason = why_too_large(large, int(floors.least_bytes(large) * 0.6) + RESERVE // 1000)
    assert reason.startswith("not run: it needs about 0.0 GiB")
    assert "batch" in reason.rpartition(";")[2]
