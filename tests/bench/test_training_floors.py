"""The floor of a step, counted by hand at a small size, and against the stated floor of the 124M model."""

import pytest

from gdnbench.errors import GdnbenchError
from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.measure.training import components, floors
from gdnbench.models.config import ModelConfig
from gdnbench.models.decoder import on_meta

N = 2 * 64  # tokens of the small step
# 1 byte or operation takes a nanosecond.
UNIT = Calibration(copy_gb_s=1.0, matmul_tflop_s=1e-3)


def model(arch="gdn", **fields):
    common = {"width": 16, "base_width": 16, "depth": 1, "vocab_size": 32, "mlp_width": 48}
    return on_meta(ModelConfig(arch=arch, **(common | fields)))


def least(decoder, **sizes):
    """Component -> nanoseconds."""
    found = floors.floors(decoder, **({"batch": 2, "seq_len": 64} | sizes), calibration=UNIT)
    return {name: round(1e6 * ms) for name, ms in found.items()}


def test_a_gdn_step_by_hand():
    """Two heads, K 2, V 4: keys 4, values 8."""
    found = least(model(options={"gdn": {"heads": 2}}))
    matrices = 16 * (4 + 4 + 8 + 8 + 8 + 2 + 2) + 3 * 16 * 48 + 16 * 32
    parameters = matrices + 4 * (4 + 4 + 8) + (2 + 2 + 4) + 3 * 16
    assert found[components.MATMUL] == 6 * N * matrices
    assert found[components.CONVOLUTION] == 8 * 16 * N + 24 * 16 * N, "8 and 24 operations beat 4 and 6 bytes here"
    # Residual and norm, twice; the first norm; gated norm of 8; SwiGLU of 48.
    forward = 2 * 4 * 16 + 2 * 16 + 3 * 8 + 3 * 48
    backward = 2 * 4 * 16 + 3 * 16 + 5 * 8 + 5 * 48
    assert found[components.ELEMENTWISE] == 2 * N * (forward + backward)
    assert found[components.LOSS] == 4 * 2 * N * 32
    assert found[components.EMBEDDING] == N * 16 * (4 + 2 + 2) + 2 * 4 * 16 * 32
    assert found[components.OPTIMIZER] == 7 * 4 * parameters + 4 * parameters
    assert found[components.COPIES] == 6 * matrices
    # One chunk, two heads: 6CKV + 4C^2(K + V) forward, 16CKV + 10C^2(K + V) backward.
    assert found[components.MIXER] == 2 * 2 * (22 * 64 * 2 * 4 + 14 * 64 * 64 * 6)
    assert components.ATTENTION not in found


def test_attention_is_a_component_of_its_own_and_turns_q_and_k():
    found = least(model("transformer", options={"transformer": {"heads": 2, "kv_heads": 1, "head_dim": 8}}))
    assert components.MIXER not in found
    assert components.CONVOLUTION not in found
    assert found[components.ATTENTION] == 3.5 * 2 * (2 * 2 * 64 * 64 / 2) * 16
    rotated = 2 * (16 + 8)
    forward, backward = 2 * 4 * 16 + 2 * 16 + rotated + 3 * 48, 2 * 4 * 16 + 3 * 16 + rotated + 5 * 48
    assert found[components.ELEMENTWISE] == 2 * N * (forward + backward)


def test_a_native_attention_block_has_its_gate_and_convolutions():
    options = {"transformer": {"heads": 2}}
    plain, native = (least(model("transformer", block=block, options=options)) for block in ("controlled", "native"))
    assert native[components.CONVOLUTION] == 32 * 3 * 16 * N
    assert native[components.ELEMENTWISE] - plain[components.ELEMENTWISE] == 2 * N * 8 * 16


def test_a_hybrid_is_the_sum_of_its_blocks():
    options = {"gdn": {"heads": 2}, "transformer": {"heads": 2}}
    alone = [least(model(arch, options={arch: options[arch]})) for arch in ("gdn", "transformer")]
    both = least(model("hybrid", depth=2, pattern="gdn transformer", options=options))
    assert both[components.MIXER] == alone[0][components.MIXER]
    assert both[components.ATTENTION] == alone[1][components.ATTENTION]
    head = 6 * N * 16 * 32
    assert both[components.MATMUL] == alone[0][components.MATMUL] + alone[1][components.MATMUL] - head


@pytest.mark.parametrize(("arch", "block"), [("mamba2", "native"), ("mamba2", "controlled"), ("rwkv7", "native")])
def test_every_architecture_has_a_floor(arch, block):
    options = {arch: {"head_dim": 8, **({"state_dim": 16} if arch == "mamba2" else {})}}
    found = least(model(arch, block=block, options=options))
    assert found[components.MIXER] > 0
    assert found[components.ELEMENTWISE] > 0


def test_matrices_are_what_a_token_is_multiplied_with():
    """The same count as by the model's own formula, less what that counts besides matrices."""
    decoder = model("rwkv7", options={"rwkv7": {"head_dim": 8}})
    recurrence = 8 * 16 * 8
    assert 2 * floors.matrix_weights(decoder) == decoder.flops_per_token(1) - recurrence
    untied = model(tied=False, options={"gdn": {"heads": 2}})
    assert floors.matrix_weights(untied) == floors.matrix_weights(model(options={"gdn": {"heads": 2}}))


def test_the_124m_gdn_step_has_the_floor_that_its_parts_were_estimated_at():
    """Matrix products 69 ms, mixer 4.5, element-wise 19 with the convolution, loss 4, optimizer 1: near 97 ms."""
    decoder = model(width=768, base_width=768, depth=12, vocab_size=32000, mlp_width=2048)
    found = floors.floors(decoder, 32, 2048, Calibration(copy_gb_s=4240.0, matmul_tflop_s=710.0))
    assert decoder.parameter_count(embedding=True) == pytest.approx(124e6, rel=0.005)
    assert found[components.MATMUL] == pytest.approx(69, abs=0.5)
    assert found[components.MIXER] == pytest.approx(4.5, abs=0.1)
    assert found[components.CONVOLUTION] + found[components.ELEMENTWISE] == pytest.approx(19, abs=1)
    assert found[components.LOSS] == pytest.approx(4, abs=0.1)
    assert found[components.OPTIMIZER] == pytest.approx(1, abs=0.1)
    assert sum(found.values()) == pytest.approx(97, abs=1)


def test_a_mixer_without_a_known_operation_has_no_floor():
    decoder = model(options={"gdn": {"heads": 2}})
    decoder.block_list()[0].mixer.impl = {}
    with pytest.raises(GdnbenchError, match="its floor is not known"):
        least(decoder)
