"""Our engine on a GPU as the bench runs it: right by its own check, and timed at every place of a small grid."""

import pytest
import torch

from gdnbench.measure.decoding.grid import Asked, cases
from gdnbench.measure.decoding.measuring import measure
from gdnbench.measure.decoding.own import OwnHost
from gdnbench.measure.kernels.calibration import calibrate, read_bandwidth

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"),
]


@pytest.mark.parametrize("arch", ["gdn", "transformer", "mamba2", "hybrid"])
def test_a_graph_is_right_and_timed(arch):
    asked = Asked(
        device="cuda", sizes=["125m"], archs=[arch], impls=["gdnbench"], batches=[1, 3], contexts=[9, 100], depth=5,
        tokens=8, repeats=2,
    )  # fmt: skip
    found = [case for case in cases(asked) if case.model.block == cases(asked)[0].model.block]
    host = OwnHost(found[0])
    gate = host.check()
    assert gate.correct, gate.checked
    for case in found:
        result = measure(host, case)
        assert [len(stretch) for stretch in result.stretches] == [8, 8]
        assert all(ms > 0 for stretch in result.stretches for ms in stretch)
        assert result.decode_peak_gib >= (result.weight_bytes + result.state_bytes) / 2**30


def test_reading_is_no_slower_than_copying():
    """Both move as many bytes a second as the memory gives, within what kernels differ by."""
    assert read_bandwidth("cuda") > 0.85 * calibrate("cuda").copy_gb_s
