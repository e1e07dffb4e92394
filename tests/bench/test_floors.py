"""The floor: counts of operations and bytes, and the least time, at the shapes of the design's table."""

import pytest

from gdnbench.measure.kernels import floors
from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.measure.kernels.case import Shape

RATES = Calibration(copy_gb_s=4244.0, matmul_tflop_s=710.0)

# Shape -> GFLOP, MB and ms by bytes and by operations, forward and backward: counted by hand, to their last digit.
COUNTED = {
    Shape(8, 4096, 16, 128, 128): ((86, 541, 0.127, 0.121), (223, 948, 0.223, 0.315)),
    Shape(60, 1024, 6, 32, 64): ((14, 145, 0.034, 0.019), (35, 242, 0.057, 0.049)),
    Shape(32, 1024, 6, 128, 256): ((58, 304, 0.072, 0.082), (151, 506, 0.119, 0.213)),
    Shape(32, 1024, 6, 96, 192): ((36, 228, 0.054, 0.051), (94, 381, 0.090, 0.133)),
    Shape(8, 4096, 6, 256, 512): ((193, 606, 0.143, 0.272), (509, 1010, 0.238, 0.717)),
}


@pytest.mark.parametrize("shape", COUNTED, ids=str)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_gated_delta_rule(shape, direction):
    gflop, megabytes, by_bytes, by_flops = COUNTED[shape][direction == "backward"]
    (work,) = floors.gated_delta(shape, 2, direction)
    assert work.flops / 1e9 == pytest.approx(gflop, abs=0.51)
    assert work.bytes / 1e6 == pytest.approx(megabytes, abs=0.51)
    assert floors.floor_ms([work], RATES) == pytest.approx(max(by_bytes, by_flops), abs=6e-4)


def test_forward_and_backward_add_up():
    shape = Shape(8, 4096, 16, 128, 128)
    both = floors.gated_delta(shape, 2, "forward_backward")
    # The first is bound by bytes and the second by operations: adding both kinds first would give less.
    assert floors.floor_ms(both, RATES) == pytest.approx(0.127 + 0.315, abs=1e-3)


def test_a_chunk_that_is_not_full_counts_whole():
    one, full = (floors.gated_delta(Shape(1, time, 1, 64, 64), 2, "forward")[0] for time in (1, 64))
    assert one.flops == full.flops
    assert one.bytes < full.bytes


def test_a_decode_step_is_its_states_read_and_write():
    (work,) = floors.gated_delta_step(Shape(64, 1, 16, 128, 128), 2, "forward")
    state = 64 * 16 * 128 * 128 * 4
    assert work.bytes == pytest.approx(2 * state, rel=0.02)
    assert floors.floor_ms([work], RATES) == pytest.approx(0.032, abs=1e-3)


def test_a_decode_step_has_no_backward_pass():
    with pytest.raises(ValueError, match="backward"):
        floors.gated_delta_step(Shape(1, 1, 1, 16, 16), 2, "backward")


def test_heads_of_one_group_share_what_c_and_b_make():
    (work,) = floors.ssd(Shape(1, 64, 24, 128, 64), 2, "forward")
    assert work.flops == pytest.approx(24 * (4 * 64 * 128 * 64 + 2 * 64 * 64 * 64) + 2 * 64 * 64 * 128)


def test_head_and_loss_are_bound_by_three_products():
    both = floors.linear_cross_entropy(Shape(32, 2048, 1, 768, 32000), 2, "forward_backward")
    assert sum(work.flops for work in both) == 6 * 65536 * 768 * 32000
    assert floors.floor_ms(both, RATES) == pytest.approx(13.6, abs=0.05)


def test_attention_grows_with_the_square_of_time_and_the_recurrences_do_not():
    short, long = (Shape(1, time, 4, 64, 64) for time in (1024, 2048))

    def growth(work):
        return work(long, 2, "forward")[0].flops / work(short, 2, "forward")[0].flops

    assert growth(floors.attention) == 4
    assert growth(floors.ssd) == growth(floors.wkv7) == growth(floors.gated_delta) == 2
